"""Engines that turn ordinary text (no special tokens in it) into ids; `choose` takes the fastest proven exact one.

`tokenizers` is the reference: a tokenizer.json means what it does. tiktoken stands in where it is proved to give the
same ids (proof.py), lookup tables where a vocabulary has one token for each byte or character.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from danlu.core.errors import BadInput
from danlu.tokenizer import patterns, proof
from danlu.tokenizer.definition import byte_characters, from_characters

Ids = np.ndarray[Any, np.dtype[np.uint32]]
HOSTILE = (
    "It's we'LL don't I'\u017f",
    "a  b   c \t\n\r\n  x\n\n",
    " \u00a0\u1680\u2003\u2028\u3000\u0085x\x0b\x0c\x1cy\u180e\u200b",
    "\ufeff\x00\x7f e\u0301\u0301 \u0301\u0e01\u0e33\u0915\u094d\u0937",
    "\u4e2d\u6587\uff0c\u3007\u3005\U00020000\U0002ebf0\U000323b0\uac00\u3042\u30a2",
    "12345 \u0661\u0662\u0663 \u00bd\u2167\u3007 \uff11\uff12",
    "\U0001f469\u200d\U0001f4bb\U0001faea\u2764\ufe0f",
    "\u05e9\u05dc\u05d5\u05dd \u0633\u0644\u0627\u0645 \u01c5\u02b0\u00aa\u1c89\ua7cb\U00010d4a\U00011db0\U00016ea0\U0001df25",
)
"""Where engines with other Unicode tables or regular-expression rules have differed: white space, marks, digits, new letters."""
_NAMED_CLASS = re.compile(r"\\[pPsSwWdDbB]")
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

    def __init__(self, ids: Mapping[bytes, int], pattern: str, normalise: Callable[[str], str] | None = None):
        import tiktoken

        unused = {_UNUSED_SPECIAL: max(ids.values()) + 1}  # with none at all its search for them matches everywhere
        self.pattern, self._normalise = pattern, normalise
        self._encoding = tiktoken.Encoding("danlu", pat_str=pattern, mergeable_ranks=dict(ids), special_tokens=unused)

    def encode(self, text: str) -> Ids:
        if self._normalise and not text.isascii():
            text = self._normalise(text)
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
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # as text, that is

    def encode(self, text: str) -> Ids:
        text.encode()  # lone surrogates: raise as the other engines do
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.uint32)


def choose(definition: Mapping[str, Any], proved: bool = False) -> tuple[Engine, str]:
    """The fastest exact engine for a tokenizer.json and why it was taken.

    proved: the equality of tiktoken and the merge list was shown before for exactly this definition.
    """
    if definition["model"].get("type") != "BPE":
        return Reference(definition), "its vocabulary is not a byte-level BPE"
    if not definition.get("normalizer") and not definition["model"].get("merges"):
        table = _table(definition)
        if table:
            return table, "one token a byte or character"
    engine, reason = _tiktoken(definition, proved)
    return engine or Reference(definition), reason


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
    if odd:
        return None, f"it uses {odd[0]}, which tiktoken does not know"
    pattern = _pattern(definition.get("pre_tokenizer") or {})
    if pattern is None:
        return None, "its pre-tokenizer is not one regular expression followed by bytes"
    added = {token["content"] for token in definition["added_tokens"]}
    ids = {from_characters(name): number for name, number in model["vocab"].items() if name not in added}
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    merges = [(from_characters(left), from_characters(right)) for left, right in pairs]
    if None in ids or any(None in pair for pair in merges):
        return None, "its vocabulary is not written in the byte-level alphabet"
    problem = _disorder(ids, merges) or (None if proved else proof.disagreement(merges))  # type: ignore[arg-type]
    if problem:
        return None, problem
    try:
        engine = Tiktoken(ids, pattern, _normaliser(definition))  # type: ignore[arg-type]
    except ValueError as error:
        return None, f"tiktoken cannot read its pattern: {error}"
    if not proved and _NAMED_CLASS.search(pattern) and not _same_on_hostile_text(engine, Reference(definition)):
        return None, "tiktoken cuts some hostile text elsewhere"
    return engine, "proved equal to tokenizers, token by token"


def _disorder(ids: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Why ids cannot serve as tiktoken's ranks; None when they can."""
    formed = [ids.get(left + right, -1) for left, right in merges]
    if any(now < before for before, now in pairwise([0, *formed])):
        return "its ids do not rise in the order of its merges"
    if len(ids) != 256 + len(set(formed)) or any(bytes([byte]) not in ids for byte in range(256)):
        return "it has tokens that no merge forms, or lacks some of the 256 bytes"
    return None


def _normaliser(definition: Mapping[str, Any]) -> Callable[[str], str] | None:
    """The function that a tokenizer.json puts before everything else, as `tokenizers` computes it."""
    if not definition.get("normalizer"):
        return None
    import tokenizers

    empty = {**definition, "added_tokens": [], "pre_tokenizer": None, "post_processor": None, "decoder": None}
    parts = {**empty, "model": {"type": "BPE", "vocab": {}, "merges": []}}
    found: Callable[[str], str] = tokenizers.Tokenizer.from_str(json.dumps(parts)).normalizer.normalize_str
    return found


def _same_on_hostile_text(engine: Engine, reference: Engine) -> bool:
    return all(np.array_equal(engine.encode(text), reference.encode(text)) for text in HOSTILE)


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
