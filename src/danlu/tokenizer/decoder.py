"""From ids back to text, one id at a time, in whole UTF-8 characters only."""

import codecs
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from danlu.tokenizer.definition import from_characters

_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Decoder(Protocol):
    """Decodes one stream of ids."""

    def push(self, number: int) -> str:
        """The text that this id completes; empty while a character is still open."""
        ...

    def flush(self) -> str:
        """What is left at the end of the stream; an unfinished character becomes U+FFFD."""
        ...


class ByteDecoder:
    """For vocabularies whose tokens are bytes that simply follow each other."""

    def __init__(self, token_bytes: Callable[[int], bytes]):
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, number: int) -> str:
        return self._utf8.decode(self._token_bytes(number))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class PieceDecoder:
    """For vocabularies whose tokens change with their neighbours (blanks, prefixes): decodes a short tail again."""

    def __init__(self, decode: Callable[[list[int]], str]):
        self._decode = decode
        self._known: list[int] = []
        """Tokens whose text was given, kept as the left neighbours of what comes."""
        self._open: list[int] = []
        """Tokens after them whose text is not complete."""

    def push(self, number: int) -> str:
        self._open.append(number)
        before, text = self._decode(self._known), self._decode(self._known + self._open)
        if len(text) <= len(before) or text.endswith("\ufffd"):
            return ""
        self._known, self._open = self._open, []
        return text[len(before) :]

    def flush(self) -> str:
        rest = self._decode(self._known + self._open)[len(self._decode(self._known)) :]
        self._known, self._open = [], []
        return rest


def joins_bytes(parts: Mapping[str, Any]) -> bool:
    """Whether the text of ids is the bytes of each, one after the other."""
    decoder = parts.get("decoder") or {}
    steps = decoder["decoders"] if decoder.get("type") == "Sequence" else [decoder]
    prefix = parts["model"].get("continuing_subword_prefix")
    if prefix and steps[0].get("pattern") == {"String": prefix} and steps[0].get("content") == "":
        steps = steps[1:]
    return [step.get("type") for step in steps] in (["ByteLevel"], ["ByteFallback", "Fuse"])


def byte_table(parts: Mapping[str, Any], vocab: Mapping[str, int], size: int) -> list[bytes]:
    """The bytes that each id stands for, as far as a token has bytes of its own; b"" for ids without a token."""
    names = decoder_names(parts.get("decoder"))
    special = {token["content"] for token in parts["added_tokens"]}
    prefix = parts["model"].get("continuing_subword_prefix")
    table = [b""] * size
    for name, number in vocab.items():
        table[number] = name.encode() if name in special else _bytes_of(name, names, prefix)
    return table


def _bytes_of(name: str, decoders: set[str], prefix: str | None) -> bytes:
    if prefix:
        name = name.removeprefix(prefix)
    if "ByteLevel" in decoders:
        found = from_characters(name)
        return name.encode() if found is None else found
    match = _BYTE_NAME.fullmatch(name) if "ByteFallback" in decoders else None
    if match:
        return bytes([int(match[1], 16)])
    return (name.replace("\u2581", " ") if decoders & {"Metaspace", "Replace"} else name).encode()


def decoder_names(decoder: Mapping[str, Any] | None) -> set[str]:
    """The types of all parts of a decoder."""
    if not decoder:
        return set()
    if decoder["type"] == "Sequence":
        return set().union(*(decoder_names(part) for part in decoder["decoders"]))
    return {decoder["type"]}
