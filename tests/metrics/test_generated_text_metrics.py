"""Scores of written text are those of the libraries, and Chinese is cut where they would throw it away."""

import sys

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from danlu.core.errors import MissingExtra
from danlu.metrics import bleu as bleu_parts
from danlu.metrics import chrf as chrf_parts
from danlu.metrics.bleu import bleu
from danlu.metrics.chrf import chrf
from danlu.metrics.f1 import f1
from danlu.metrics.rouge import KINDS, rouge

SAID = ["the furnace was lit at dawn", "by noon the lead had melted", "nobody slept", ""]
TRUE = ["the old furnace was lit at dawn", "the lead had melted by noon", "nobody was awake", "it is late"]
SAID_ZH, TRUE_ZH = ["丹炉在黎明点燃", "铅已经熔化了"], ["丹炉已在黎明时点燃", "到中午铅就熔化了"]
ENGLISH = st.text("abc de", min_size=1, max_size=30)
MIXED = st.text("ab 丹炉铅。", max_size=12)


def test_bleu_and_chrf_are_sacrebleus():
    assert bleu(SAID, TRUE) == sacrebleu.corpus_bleu(SAID, [TRUE]).score
    assert bleu(SAID_ZH, TRUE_ZH) == sacrebleu.corpus_bleu(SAID_ZH, [TRUE_ZH], tokenize="zh").score > 0
    assert bleu(SAID_ZH, TRUE_ZH, "13a") == sacrebleu.corpus_bleu(SAID_ZH, [TRUE_ZH]).score
    two = [[one, other] for one, other in zip(TRUE, SAID)]
    assert bleu(SAID, two) == sacrebleu.corpus_bleu(SAID, [TRUE, SAID]).score
    assert chrf(SAID, TRUE) == sacrebleu.corpus_chrf(SAID, [TRUE]).score
    assert chrf(SAID, TRUE, word_order=2) == sacrebleu.corpus_chrf(SAID, [TRUE], word_order=2).score


def test_sums_of_some_sentences_give_the_score_of_those_sentences():
    kept = [2, 0, 0]
    parts = bleu_parts.parts(SAID, TRUE)
    some = sacrebleu.corpus_bleu([SAID[at] for at in kept], [[TRUE[at] for at in kept]]).score
    assert bleu_parts.finish(parts[kept].sum(0, keepdims=True))[0] == some
    some = sacrebleu.corpus_chrf([SAID[at] for at in kept], [[TRUE[at] for at in kept]]).score
    assert chrf_parts.finish()(chrf_parts.parts(SAID, TRUE)[kept].sum(0, keepdims=True))[0] == pytest.approx(some)


@given(ENGLISH, ENGLISH)
def test_rouge_of_plain_english_is_rouge_scores(said, true):
    theirs = rouge_scorer.RougeScorer(list(KINDS), use_stemmer=False).score(true, said)
    assert [rouge(said, [true], kind) for kind in KINDS] == [theirs[kind].fmeasure for kind in KINDS]


def test_rouge_reads_chinese_which_rouge_score_throws_away():
    assert rouge_scorer.RougeScorer(["rouge1"]).score(TRUE_ZH[0], SAID_ZH[0])["rouge1"].fmeasure == 0
    spaced = [" ".join(map(str, map(ord, text))) for text in (TRUE_ZH[0], SAID_ZH[0])]  # the same words, in digits
    for kind in KINDS:
        assert rouge(SAID_ZH[0], [TRUE_ZH[0]], kind) == rouge_scorer.RougeScorer([kind]).score(*spaced)[kind].fmeasure > 0


@given(MIXED, MIXED)
def test_f1_is_symmetric_and_one_only_for_the_same_words(said, true):
    assert f1(said, [true]) == f1(true, [said])
    assert 0 <= f1(said, [true]) <= f1(said, [true, said]) == 1


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    precision, recall = 3 / 4, 3 / 5  # three of four words said, of five true ones
    assert f1("a b 丹 x", ["b 丹 a y z"]) == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("score", [lambda: bleu(["a"], ["a"]), lambda: chrf(["a"], ["a"]), lambda: rouge("a", ["a"])])
def test_what_is_missing_is_named(score, monkeypatch):
    for name in ("sacrebleu", "rouge_score", "rouge_score.rouge_scorer"):
        monkeypatch.setitem(sys.modules, name, None)
    from danlu.metrics.rouge import _scorer

    _scorer.cache_clear()
    with pytest.raises(MissingExtra, match=r"danlu\[evaluate\]"):
        score()


def test_no_reference_is_an_error():
    for score, said, true in ((f1, "a", []), (rouge, "a", []), (bleu, ["a"], [[]]), (bleu, [], []), (chrf, ["a"], [])):
        with pytest.raises(ValueError, match=r"reference"):
            score(said, true)
    assert np.isfinite(bleu([""], ["a"]))
