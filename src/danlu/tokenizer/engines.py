"""Engines that turn ordinary text (no special tokens in it) into ids; `choose` takes the fastest proven exact one.

`tokenizers` is the reference: a tokenizer.json means what it does. tiktoken stands in where it is proved to give the
same ids (proof.py), lookup tables where a vocabulary has one token for each byte or character.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from danlu.core.errors import BadInput
from danlu.tokenizer import patterns, proof
from danlu.tokenizer.definition import byte_characters, from_characters

Ids = np.ndarray[Any, np.dtype[np.uint32]]
_UNUSED_SPECIAL = "\x00\x00no special token reaches this engine\x00\x00"


class Engine(Protocol):
    """Encodes ordinary text; safe to call from several threads."""

    name: str

    def encode(self, text: str) -> Ids:
        """Ids of a text, uint32. Raises UnicodeEncodeError for lone surrogates."""
        ...


class Tiktoken:
    """Byte-level BPE by tiktoken, which works without holding Python's lock and returns a buffer."""

    name = "tiktoken"

    def __init__(self, ids: Mapping[bytes, int], pattern: str):
        import tiktoken

        unused = {_UNUSED_SPECIAL: max(ids.values()) + 1}  # with none at all its search for them matches everywhere
        self.pattern = pattern
        self._encoding = tiktoken.Encoding("danlu", pat_str=pattern, mergeable_ranks=dict(ids), special_tokens=unused)

    def encode(self, text: str) -> Ids:
        return self._encoding.encode_to_numpy(text, disallowed_special=())


class ByteTable:
    """One id a byte, by one numpy look-up."""

    name = "byte table"

    def __init__(self, ids: Sequence[int]):
        self._table = np.array(ids, np.uint32)

    def encode(self, text: str) -> Ids:
        return self._table[np.frombuffer(text.encode(), np.uint8)]


class CharacterTable:
    """One id a character, by one numpy look-up; characters without an id go as bytes where the vocabulary has bytes."""

    name = "character table"

    def __init__(self, ids: Mapping[str, int], byte_ids: Sequence[int] | None):
        self._table = np.full(0x110000, -1, np.int32)
        for character, number in ids.items():
            self._table[ord(character)] = number
        self._bytes = ByteTable(byte_ids) if byte_ids else None

    def encode(self, text: str) -> Ids:
        found = self._table[np.frombuffer(text.encode("utf-32-le"), np.uint32)]
        strange = np.flatnonzero(found < 0)
        if not strange.size:
            return found.astype(np.uint32)
        if self._bytes is None:
            names = sorted({text[at] for at in strange[:1000]})
            raise BadInput(
                f"{len(strange)} character(s) are not in this vocabulary: {', '.join(f'{name!r}' for name in names[:10])}"
                f"{', ...' if len(names) > 10 else ''}. Train the tokenizer on text that holds them, or with unknown=bytes."
            )
        parts, done = [], 0
        for at in map(int, strange):
            parts += [found[done:at].astype(np.uint32), self._bytes.encode(text[at])]
            done = at + 1
        return np.concatenate([*parts, found[done:].astype(np.uint32)])


class Reference:
    """Any tokenizer.json, by the `tokenizers` library."""

    name = "tokenizers"

    def __init__(self, definition: Mapping[str, Any]):
        """Added tokens that are not special are words of the vocabulary and stay; special ones are left out here."""
        import tokenizers

        ordinary = [token for token in definition["added_tokens"] if not token["special"]]
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps({**definition, "added_tokens": ordinary}))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, text: str) -> Ids:
        text.encode()  # lone surrogates: raise as the other engines do
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.uint32)


def choose(definition: Mapping[str, Any], proved: bool = False) -> tuple[Engine, str]:
    """The fastest exact engine for a tokenizer.json and why it was taken.

    proved: the equality of tiktoken and the merge list was shown before for exactly this definition.
    """
    reason = "its vocabulary is not a byte-level BPE"
    model = definition["model"]
    if model.get("type") == "BPE" and not any(not token["special"] for token in definition["added_tokens"]):
        if not definition.get("normalizer") and not model.get("merges"):
            table = _table(definition)
            if table:
                return table, "one token a byte or character"
        engine, reason = _tiktoken(definition, proved)
        if engine:
            return engine, reason
    elif model.get("type") == "BPE":
        reason = "it has added tokens that are ordinary words"
    return Reference(definition), reason


def _table(definition: Mapping[str, Any]) -> Engine | None:
    """A lookup table for a vocabulary without merges, where its parts are exactly those that our trainers write."""
    model, vocab = definition["model"], definition["model"]["vocab"]
    before = definition.get("pre_tokenizer") or {}
    if _plain_byte_level(before) and set(byte_characters()) <= vocab.keys():
        return ByteTable([vocab[character] for character in byte_characters()])
    if not before and not model.get("unk_token"):
        names = [f"<0x{byte:02X}>" for byte in range(256)]
        fallback = [vocab[name] for name in names] if model.get("byte_fallback") and set(names) <= vocab.keys() else None
        return CharacterTable({name: number for name, number in vocab.items() if len(name) == 1}, fallback)
    return None


def _tiktoken(definition: Mapping[str, Any], proved: bool) -> tuple[Engine | None, str]:
    """tiktoken for a byte-level BPE, or the reason why it cannot stand in."""
    model = definition["model"]
    odd = [name for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
           if model.get(name)]  # fmt: skip
    if odd or definition.get("normalizer"):
        return None, f"it uses {odd[0] if odd else 'a normalizer'}, which tiktoken does not know"
    pattern = _pattern(definition.get("pre_tokenizer") or {})
    if pattern is None:
        return None, "its pre-tokenizer is not one regular expression followed by bytes"
    special = {token["content"] for token in definition["added_tokens"]}
    ids = {from_characters(name): number for name, number in model["vocab"].items() if name not in special}
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    merges = [(from_characters(left), from_characters(right)) for left, right in pairs]
    if None in ids or any(None in pair for pair in merges):
        return None, "its vocabulary is not written in the byte-level alphabet"
    formed = [ids.get(left + right, -1) for left, right in merges]  # type: ignore[operator]  # None was ruled out
    if any(now <= before for before, now in zip([-1, *formed], formed, strict=False)):
        return None, "its ids do not rise in the order of its merges"
    if len(ids) != 256 + len(merges):
        return None, "it has tokens that no merge forms, or lacks some of the 256 bytes"
    problem = None if proved else proof.disagreement(merges)  # type: ignore[arg-type]
    if problem:
        return None, problem
    try:
        return Tiktoken(ids, pattern), "proved equal to tokenizers, token by token"  # type: ignore[arg-type]
    except ValueError as error:
        return None, f"tiktoken cannot read its pattern: {error}"


def _pattern(before: Mapping[str, Any]) -> str | None:
    """The one regular expression of a byte-level pre-tokenizer."""
    if before.get("type") == "ByteLevel" and before.get("use_regex", True) and not before.get("add_prefix_space", True):
        return patterns.GPT2
    if before.get("type") != "Sequence" or len(before["pretokenizers"]) != 2:
        return None
    cut, level = before["pretokenizers"]
    if cut.get("type") != "Split" or cut.get("behavior") != "Isolated" or cut.get("invert") or not _plain_byte_level(level):
        return None
    pattern = cut["pattern"].get("Regex")
    return pattern if isinstance(pattern, str) else None


def _plain_byte_level(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "ByteLevel" and not part.get("use_regex", True) and not part.get("add_prefix_space", True)
