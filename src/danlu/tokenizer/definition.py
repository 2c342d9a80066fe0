"""The text of tokenizer.json: written for vocabularies trained here, taken apart for those made elsewhere."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

ENDOFTEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
DEFAULT_SPECIAL_TOKENS = (ENDOFTEXT, IM_START, IM_END)
"""In this order from id 0. The first is the beginning, the end and the padding of a document at once."""
MASK = "<|mask|>"
"""Stands where a token was hidden; a tokenizer that has it tells transformers so."""


@functools.cache
def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's convention).

    Bytes that print in Latin-1 stand for themselves; the others take the code points from 256 up, in order.

    >>> byte_characters()[0x41], byte_characters()[0x20]
    ('A', 'Ġ')
    """
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return tuple(chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256))


@functools.cache
def character_bytes() -> Mapping[str, int]:
    """`byte_characters` the other way round."""
    return {character: byte for byte, character in enumerate(byte_characters())}


def to_characters(token: bytes) -> str:
    """Bytes as byte-level vocabularies write them.

    >>> to_characters(" 中".encode())
    'Ġä¸Ń'
    """
    table = byte_characters()
    return "".join([table[byte] for byte in token])


def from_characters(token: str) -> bytes | None:
    """The bytes of a byte-level vocabulary entry; None when it is not written in that alphabet."""
    table = character_bytes()
    try:
        return bytes([table[character] for character in token])
    except KeyError:
        return None


def byte_level(pattern: str | None) -> dict[str, Any]:
    """Pre-tokenizer and decoder of a byte-level vocabulary; without a pattern the text is one piece."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    before = {"type": "Sequence", "pretokenizers": [cut, level]} if pattern else level
    return {"pre_tokenizer": before, "decoder": level}


def assemble(model: dict[str, Any], special_tokens: Sequence[str], **parts: Any) -> dict[str, Any]:
    """A whole tokenizer.json: the model, what stands around it, and special tokens that take ids from 0 up."""
    added = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for number, token in enumerate(special_tokens)
    ]  # fmt: skip
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
             "pre_tokenizer": None, "post_processor": None, "decoder": None}  # fmt: skip
    return {**whole, **parts, "model": model}


def bpe_model(vocab: dict[str, int], merges: Sequence[tuple[str, str]], **parts: Any) -> dict[str, Any]:
    """The model part of a BPE tokenizer.json."""
    plain = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}  # fmt: skip
    return {**plain, **parts, "vocab": vocab, "merges": [list(pair) for pair in merges]}


def byte_level_bpe(
    pairs: Sequence[tuple[bytes, bytes]], pattern: str | None, special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS
) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE: special tokens, then the 256 bytes in order, then one token a merge."""
    names = [*special_tokens, *byte_characters(), *(to_characters(left + right) for left, right in pairs)]
    vocab = {name: number for number, name in enumerate(names)}
    merges = [(to_characters(left), to_characters(right)) for left, right in pairs]
    return assemble(bpe_model(vocab, merges), special_tokens, **byte_level(pattern))
