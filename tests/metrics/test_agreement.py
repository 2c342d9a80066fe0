"""Agreement against published worked examples, scikit-learn, and what must hold for any labels."""

import math
import random

import pytest

from danlu.metrics.agreement import cohen_kappa, krippendorff_alpha, observed

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example C: four observers, twelve units, gaps.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
# The same, example A: two observers, ten units, two labels.
MEG, OWEN = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


def labels(count, seed, names="abc"):
    drawn = random.Random(seed)
    return [drawn.choice(names) for _ in range(count)]


def test_alpha_is_that_of_the_published_examples():
    assert krippendorff_alpha(list(zip(*OBSERVERS, strict=True))) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(list(zip(MEG, OWEN, strict=True))) == pytest.approx(0.095, abs=5e-4)


def test_a_hand_worked_alpha():
    """aa, ab, bb: n = 6, on the diagonal 2 + 2, three of each: 1 - 5 * (6 - 4) / (36 - 18) = 4/9."""
    assert krippendorff_alpha([("a", "a"), ("a", "b"), ("b", "b")]) == pytest.approx(4 / 9)


def test_kappa_is_that_of_the_textbook():
    """Two readers of fifty proposals: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no; 0.7 seen, 0.5 by chance."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_agrees_with_scikit_learn(seed):
    from sklearn.metrics import cohen_kappa_score

    first = labels(37, seed)
    second = [
        one if random.Random(at).random() < 0.6 else other for at, (one, other) in enumerate(zip(first, labels(37, seed + 9)))
    ]
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_perfect_agreement_is_one_and_chance_is_about_none():
    same, other = labels(4000, 1), labels(4000, 2)
    assert cohen_kappa(same, same) == krippendorff_alpha(list(zip(same, same, same, strict=True))) == 1
    assert abs(cohen_kappa(same, other)) < 0.05 and abs(krippendorff_alpha(list(zip(same, other, strict=True)))) < 0.05


def test_gaps_and_single_labels_change_nothing():
    units = list(zip(labels(9, 3), labels(9, 4), strict=True))
    padded = [(None, *unit, None) for unit in units] + [("a", None), (None, None), ()]
    assert krippendorff_alpha(padded) == pytest.approx(krippendorff_alpha(units))
    assert observed(padded) == pytest.approx(sum(one == two for one, two in units) / 9)


def test_where_nothing_can_be_said_it_is_not_a_number():
    assert math.isnan(krippendorff_alpha([("a",), (None, "b")])) and math.isnan(krippendorff_alpha([("a", "a")] * 3))
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"])) and math.isnan(observed([]))
    with pytest.raises(ValueError, match="2 and 1 labels"):
        cohen_kappa(["a", "b"], ["a"])
