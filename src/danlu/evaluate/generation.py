"""Answers that are written and then judged: what is asked for, and the figures over what came back.

exact_match and its settings, bleu, chrf and chrf++ are lm-eval's (sacrebleu's defaults; `tokenize: zh` for Chinese is ours); f1,
rouge1, rouge2, rougeL and numeric_match are Danlu's own metrics. With several references, the best counts.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from danlu.core.errors import BadSettings, nearest
from danlu.engine.request import Sampling
from danlu.evaluate.paired import Figure, of_values
from danlu.metrics import bleu, chrf
from danlu.metrics.f1 import f1
from danlu.metrics.numbers import answer_number
from danlu.metrics.rouge import rouge

MOST = 256
"""Tokens of an answer where the task does not say: lm-eval's default."""
_KNOWN = frozenset({"until", "max_gen_toks", "temperature", "do_sample", "top_p", "top_k"})


@dataclass(frozen=True)
class Ask:
    """How an answer is written."""

    sampling: Sampling
    room: int


def ask_of(told: Mapping[str, Any] | None, delimiter: str, where: str) -> Ask:
    """generation_kwargs as settings; without `until`, an answer ends where the next example would begin. Raises BadSettings."""
    told = dict(told or {})
    if strange := sorted(told.keys() - _KNOWN):
        raise BadSettings(f"{where}: generation_kwargs.{strange[0]} is not read here. {nearest(strange[0], sorted(_KNOWN))}")
    temperature, sample = float(told.get("temperature", 0.0)), told.get("do_sample")
    if sample and temperature == 0:
        raise BadSettings(f"{where}: generation_kwargs.do_sample draws answers, which needs a temperature above 0.")
    until = told.get("until", [delimiter])
    stops = [one for one in ([until] if isinstance(until, str) else until) if one]
    sampling = Sampling(temperature=0 if sample is False else temperature, stop=stops,
                        **{key: told[key] for key in ("top_p", "top_k") if key in told})  # type: ignore[arg-type]  # fmt: skip
    return Ask(sampling, int(told.get("max_gen_toks", MOST)))


# ---- figures


def exact(said: str, true: Sequence[str], *, regexes_to_ignore: Sequence[str] = (), ignore_case: bool = False,
          ignore_punctuation: bool = False, ignore_numbers: bool = False) -> float:  # fmt: skip
    """Whether an answer is a reference, once what is to be ignored is gone: first patterns, then case, punctuation, digits.

    >>> exact("The  42!", ["the "], regexes_to_ignore=[" "], ignore_case=True, ignore_punctuation=True, ignore_numbers=True)
    1.0
    """

    def bare(text: str) -> str:
        for pattern in regexes_to_ignore:
            text = re.sub(pattern, "", text)
        text = text.lower() if ignore_case else text
        gone = string.punctuation * ignore_punctuation + string.digits * ignore_numbers
        return text.translate(str.maketrans("", "", gone))

    return float(any(bare(said) == bare(one) for one in true))


def numeric(said: str, true: Sequence[str]) -> float:
    """Whether the number that an answer comes to equals that of a reference (metrics/numbers.py).

    >>> numeric("so 1,200 in all.", ["#### 1200"]), numeric("none", ["3"])
    (1.0, 0.0)
    """
    found = answer_number(said)
    return float(found is not None and any(found == answer_number(one) for one in true))


Score = Callable[..., float]
_OF_ONE: dict[str, tuple[Score, frozenset[str]]] = {
    "exact_match": (exact, frozenset({"regexes_to_ignore", "ignore_case", "ignore_punctuation", "ignore_numbers"})),
    "numeric_match": (numeric, frozenset()),
    "f1": (f1, frozenset()),
    "rouge1": (partial(rouge, kind="rouge1"), frozenset()),
    "rouge2": (partial(rouge, kind="rouge2"), frozenset()),
    "rougeL": (partial(rouge, kind="rougeL"), frozenset()),
}
_OF_ALL: dict[str, frozenset[str]] = {"bleu": frozenset({"tokenize"}), "chrf": frozenset(), "chrf++": frozenset()}
METRICS = (*_OF_ONE, *_OF_ALL)


def settings_of(name: str) -> frozenset[str]:
    """What a metric can be told beside its name."""
    return _OF_ALL[name] if name in _OF_ALL else _OF_ONE[name][1]


def figure(name: str, said: Sequence[str], true: Sequence[Sequence[str]], **told: Any) -> Figure:
    """One figure over all answers; true: the references of each."""
    if name in _OF_ONE:
        return of_values(name, [_OF_ONE[name][0](one, wanted, **told) for one, wanted in zip(said, true, strict=True)])
    if name == "bleu":
        return Figure(name, bleu.parts(said, true, told.get("tokenize", "13a")), bleu.finish)
    order = 2 if name == "chrf++" else 0
    return Figure(name, chrf.parts(said, true, order), chrf.finish(order))


def right(name: str, found: Figure, at: int) -> bool | None:
    """Whether an answer is right by a figure that says so; None for scores of degree."""
    if name not in ("exact_match", "numeric_match"):
        return None
    return bool(np.isclose(found.parts_NS[at, 0], 1))
