"""Metrics of labelled samples against scikit-learn on random answers, and against definitions worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, label_ranking_average_precision_score

from danlu.metrics.accuracy import accuracy
from danlu.metrics.entity_f1 import entities, entity_f1
from danlu.metrics.interval import resampled
from danlu.metrics.macro_f1 import confusion, macro_f1
from danlu.metrics.pearson import pearson
from danlu.metrics.retrieval import hits, reciprocal, retrieval
from danlu.metrics.span_f1 import exact_match, span_f1

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_accuracy_and_macro_f1_equal_scikit_learns(classes):
    said, true = RANDOM.integers(0, classes, (2, 41))
    table = confusion(said, true, classes)
    assert (table == confusion_matrix(true, said, labels=range(classes))).all()
    assert accuracy(said.tolist(), true.tolist()) == pytest.approx(accuracy_score(true, said))
    assert macro_f1(table) == pytest.approx(f1_score(true, said, average="macro"))


def test_pearson_equals_numpys():
    one, two = RANDOM.normal(size=(2, 23))
    assert pearson(one, two) == pytest.approx(np.corrcoef(one, two)[0, 1])
    assert np.isnan(pearson([1.0, 1.0], [1.0, 2.0]))


def test_the_mean_reciprocal_rank_equals_scikit_learns_for_one_right_document_each():
    scores = RANDOM.normal(size=(9, 13))
    relevant = np.eye(13, dtype=bool)[RANDOM.integers(0, 13, 9)]
    ranks = retrieval(scores, relevant)
    assert reciprocal(ranks).mean() == pytest.approx(label_ranking_average_precision_score(relevant, scores))
    order = (-scores).argsort(1)
    assert hits(ranks, 3).tolist() == [float(relevant[row, order[row, :3]].any()) for row in range(9)]


def test_ties_and_queries_without_an_answer_count_against_a_ranking():
    scores = np.array([[0.5, 0.5, 0.5], [0.9, 0.1, 0.2]])
    assert retrieval(scores, np.array([[True, False, False], [False, False, False]])).tolist() == [3, 0]


@pytest.mark.parametrize(("tags", "found"), [
    (["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 1), ("LOC", 3, 3)]),
    (["B-PER", "B-PER"], [("PER", 0, 0), ("PER", 1, 1)]),
    (["I-PER", "I-LOC", "I-LOC"], [("PER", 0, 0), ("LOC", 1, 2)]),
    (["O", "I-ORG"], [("ORG", 1, 1)]),
    (["B-ORG", "I-PER"], [("ORG", 0, 0), ("PER", 1, 1)]),
    (["O", "O"], []),
    ([], []),
])  # fmt: skip
def test_entities_by_hand(tags, found):
    """The cases on which readings of IOB differ, as conlleval reads them."""
    assert entities(tags) == found


def test_entity_f1_asks_for_type_and_both_ends():
    true = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-ORG"]]
    said = [["B-PER", "I-PER", "I-PER"], ["B-LOC", "O", "B-LOC"]]
    assert entity_f1(said, true) == pytest.approx(2 * 1 / (3 + 3))
    assert entity_f1(true, true) == 1.0 and entity_f1([["O"]], [["O"]]) == 0.0


def test_answers_are_compared_by_words():
    assert span_f1("The old furnace.", ["an old furnace", "oven"]) == 1.0
    assert span_f1("丹炉", ["丹炉里的火"]) == pytest.approx(2 * 1 * 0.4 / 1.4)
    assert span_f1("ore", ["fire"]) == 0.0 and span_f1("ore", []) == 0.0
    assert exact_match("“火候！”", ["火候"]) == 1.0 and exact_match("", []) == 1.0


def test_a_resampled_interval_covers_what_normal_theory_says():
    values = RANDOM.normal(3.0, 2.0, 400)
    found = resampled(lambda places: float(values[places].mean()), 400, draws=500)
    error = values.std() / 20
    assert found.standard_error == pytest.approx(error, rel=0.15)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert resampled(lambda places: 1.0, 1).value == 1.0 and np.isnan(resampled(lambda places: 1.0, 1).low)
