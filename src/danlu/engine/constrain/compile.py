"""A form made ready for one tokenizer: llguidance finds the tokens that may come next, we hold it to limits and remember.

Preparing takes milliseconds to seconds and runs in threads of its own, beside the engine's. llguidance counts its work and
gives up by itself (`_ENGINE_LIMITS`), so that a thread behind its deadline ends soon after.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import Any, Self, TypeVar

import numpy as np

from danlu.core.errors import BadInput, MissingExtra
from danlu.engine.constrain import FORMS, BadForm, Limits
from danlu.tokenizer.decoder import decoder_names
from danlu.tokenizer.tokenizer import Tokenizer

_CACHED_FORMS, _CACHED_TOKENIZERS = 256, 8
_ENGINE_LIMITS = {
    "initial_lexer_fuel": 150_000, "step_lexer_fuel": 100_000, "max_lexer_states": 50_000, "verbose_errors": False,
}  # fmt: skip
"""A hostile form ends within a second, 100 MB and some milliseconds a token: with llguidance's own limits, (a{1000}){1000} takes
five seconds and 200 MB. A schema of 100 properties with ten choices each passes. Errors repeat no text of the answer."""

T = TypeVar("T")


def compile(kind: str, spec: Any, tokenizer: Tokenizer, ends: Collection[int], limits: Limits | None = None) -> "Held":
    """See the shelf. Any thread may call it; forms asked for before are only copied."""
    limits = limits or Limits()
    try:
        form = FORMS[kind](spec, limits)
    except ModuleNotFoundError as missing:
        raise MissingExtra("serve", needed_for=f"an answer of the form {kind}") from missing
    except UnicodeEncodeError:
        raise BadForm("the form holds a lone surrogate, which no text does.") from None
    special = sorted(spec.get("tokens", ())) if kind == "framed" else []  # no other form makes the model write such tokens
    key = hashlib.sha256(json.dumps([tokenizer.id, sorted(ends), special, form]).encode()).digest()
    try:
        held = _WORKERS.submit(_held.get, key, lambda: _prepared(form, tokenizer, frozenset(ends), special)).result(
            limits.compile_s
        )
    except Late:
        raise BadForm(f"the form takes more than {limits.compile_s:g} s to prepare. Ask for a simpler one.") from None
    return held.clone()


class Held:
    """An answer held to a form; see engine/constraint.py. Not for two threads at once.

    It never raises: where a form can no longer be followed (one step costs more than a step may, or a token came that was not
    allowed), nothing is allowed any more, which fails this answer alone; `trouble` says why.
    """

    def __init__(self, matcher: Any, ends: frozenset[int], text: np.ndarray):
        """text: booleans (V,), which tokens are text or end it; a form that names others by number is not followed there."""
        self._matcher, self._ends, self._text = matcher, ends, text
        self._mask: np.ndarray | None = None
        self.trouble: str | None = None

    def mask(self) -> np.ndarray:
        """Booleans (V,), not to be written to."""
        if self._mask is None:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            self._mask = np.unpackbits(bits, count=len(self._text), bitorder="little").view(bool) & self._text
            if self._broken():
                self._mask = np.zeros_like(self._text)
            self._mask.flags.writeable = False
        return self._mask

    def accept(self, token: int) -> bool:
        """See Constraint.accept."""
        if token in self._ends:
            return True
        self._mask = None
        self._matcher.consume_token(token)
        return not self._broken() and bool(self._matcher.is_stopped())

    def clone(self) -> Self:
        copy = type(self)(self._matcher.deep_copy(), self._ends, self._text)
        copy._mask, copy.trouble = self._mask, self.trouble
        return copy

    def _broken(self) -> bool:
        if self.trouble is None and self._matcher.is_error():
            self.trouble = _said(self._matcher)
        return self.trouble is not None


def _said(matcher: Any) -> str:
    """What llguidance has to complain about, without what it says about itself."""
    lines = matcher.get_error().strip().splitlines()
    return (
        " ".join(line.strip() for line in lines if line.strip() and "<" not in line[:1]) if "panic" not in lines[0] else "fault"
    )


def _prepared(form: str, tokenizer: Tokenizer, ends: frozenset[int], special: Collection[int] = ()) -> Held:
    from llguidance import LLMatcher, LLParserLimits

    words = _words.get((tokenizer.id, ends), lambda: _vocabulary(tokenizer, ends))
    matcher = LLMatcher(words.trie, form, log_level=0, limits=LLParserLimits(**_ENGINE_LIMITS))
    if matcher.is_error():
        raise BadForm(f"the form is not supported: {_said(matcher)}")
    text = words.text.copy()
    text[list(special)] = True
    held = Held(matcher, ends, text)
    if not held.mask().any():
        raise BadForm("no text of this model's tokenizer satisfies the form, or finding one costs more than it may.")
    return held


def _vocabulary(tokenizer: Tokenizer, ends: frozenset[int]) -> "_Words":
    """The tokenizer as llguidance wants it. Raises BadForm where texts are not their tokens' bytes."""
    from llguidance import LLTokenizer

    if unfit := decoder_names(tokenizer.parts.get("decoder")) - _JOINING:
        raise BadForm(
            f"this model's tokenizer puts tokens together by {', '.join(sorted(unfit))}: a text is not what its tokens say, one "
            f"after the other, and answers cannot be held to a form. Use a model with byte-level or SentencePiece tokens."
        )
    words = _Words(tokenizer, ends)
    words.trie = LLTokenizer(words, eos_token=sorted(ends) or tokenizer.vocab_size)
    return words


_JOINING = {"ByteLevel", "ByteFallback", "Fuse", "Replace", "Strip", "Metaspace"}
"""Decoders that write tokens one after the other (a blank before the first may go)."""
_MARK = b"\xff"
"""A byte that no text has; llguidance marks special tokens with it."""


class _Words:
    """What llguidance asks of a tokenizer. Tokens that stand for no text have marked names, which no text contains."""

    is_tokenizer_wrapper = True
    trie: Any

    def __init__(self, tokenizer: Tokenizer, ends: frozenset[int]):
        special = tokenizer.special_tokens.values()
        self.special_token_ids: list[int] = []
        self.bos_token_id = None
        self.eos_token_id = tokenizer.vocab_size  # one that nobody can choose, for tokenizers without an end
        self.tokens = [b"" if word[:1] == _MARK else word for word in map(tokenizer.token_bytes, range(tokenizer.vocab_size))]
        self.text = np.array([bool(word) for word in self.tokens])
        self.text[list(special)] = False
        self.text[list(ends)] = True
        self.tokens.append(b"")
        for number in (*special, *ends, tokenizer.vocab_size):
            self.tokens[number] = _MARK + b">%d" % number  # a name that no grammar can write: names end at ">"
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        """How text that a form leaves no choice about is written: as the model has learned it, where the bytes are the same."""
        try:
            ids = self._encode(text)
        except BadInput:
            ids = []
        if b"".join([self.tokens[number] for number in ids]) == text.encode():
            return ids
        longest_first: list[int] = self.trie.greedy_tokenize(text)  # SentencePiece puts a blank before a text
        return longest_first


class _Lately:
    """The things made last, by key. Two threads that ask for one at once may both make it."""

    def __init__(self, most: int):
        self._most, self._lock = most, threading.Lock()
        self._things: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                found: T = self._things[key]
                return found
        made = make()
        with self._lock:
            self._things[key] = made
            if len(self._things) > self._most:
                self._things.popitem(last=False)
        return made


_WORKERS = ThreadPoolExecutor(2, thread_name_prefix="constrain")
_held, _words = _Lately(_CACHED_FORMS), _Lately(_CACHED_TOKENIZERS)
