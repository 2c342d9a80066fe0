"""Word vectors against people's ratings and analogies: known rows only, files read strictly."""

import numpy as np
import pytest

from danlu.core.errors import BadInput
from danlu.data.word_vectors import WordVectors
from danlu.evaluate.words import analogy, read_pairs, read_questions, similarity
from danlu.metrics.spearman import spearman


@pytest.fixture
def toy():
    """Capitals stand above their countries; numbers stand in a row."""
    places = {"法国": (1, 0), "巴黎": (1, 1), "德国": (2, 0), "柏林": (2, 1), "日本": (3, 0), "东京": (3, 1)}
    return WordVectors(list(places), [1] * 6, np.array([(x, y, 1) for x, y in places.values()], np.float32))


def test_similarity_is_the_rank_correlation_over_known_pairs(toy, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(
        "# rated by us\n法国\t德国\t9\n法国\t 日本\t4.5\n巴黎\t东京\t5\n法国\t火星\t1\n巴黎\t德国\t2\n", encoding="utf-8"
    )
    found = similarity(toy, path)
    pairs = [pair for pair in read_pairs(path) if pair[1] != "火星"]
    wanted = spearman([toy.similarity(a, b) for a, b, _ in pairs], [rating for _, _, rating in pairs])
    assert (found.known, found.total) == (4, 5)
    assert found.estimate.value == pytest.approx(wanted)


def test_analogies_are_counted_by_section_and_together(toy, tmp_path):
    path = tmp_path / "questions.txt"
    lines = [": capitals", "法国 巴黎 德国 柏林", "德国 柏林 日本 东京", "日本 东京 法国 巴黎", ": other", "法国 巴黎 火星 红色"]
    path.write_text("\n".join(lines), encoding="utf-8")
    everything, capitals, other = analogy(toy, path)
    assert (everything.known, everything.total, capitals.known, other.known) == (3, 4, 3, 0)
    assert capitals.estimate.value == everything.estimate.value == 1.0 and other.estimate is None


@pytest.mark.parametrize(
    ("text", "said"),
    [("a b", "line 1.*two words and a rating"), ("a\tb\tc", "line 1"), ("\n\na,b,1\nx y z w", "line 4"), ("", "empty")],
)
def test_bad_pairs_are_named(text, said, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        list(read_pairs(path))


def test_bad_questions_and_missing_files_are_named(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text(": one\na b c\n")
    with pytest.raises(BadInput, match=r"line 2.*four words"):
        list(read_questions(path))
    with pytest.raises(BadInput, match=r"--analogy .*No such file"):
        list(read_questions(tmp_path / "none"))


def test_words_meet_in_small_letters_whatever_parts_them(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("Cat,DOG,7.5\n")
    assert list(read_pairs(path)) == [("cat", "dog", 7.5)]
