"""Words of a text in any script, and vectors on disk."""

import numpy as np
import pytest

from danlu.core.errors import BadInput, DamagedArtifact, MissingExtra, NotAnArtifact
from danlu.data.word_vectors import WordVectors
from danlu.data.words import cutter, words


def test_words_are_runs_of_letters_and_digits_in_small_letters():
    assert words("The CAT—it's 3.5 km, naïve_x!") == ["the", "cat", "it's", "3", "5", "km", "naïve_x"]
    assert words("'quoted' don’t") == ["quoted", "don’t"]
    assert words("") == words(" ,.!? ") == []


def test_han_is_cut_as_asked_and_never_joined_to_letters():
    assert words("用GPT写诗2首") == ["用", "gpt", "写", "诗", "2", "首"]
    assert words("北京很大，我爱北京", lambda run: run.split("很")) == ["北京", "大", "我爱北京"]


def test_the_segmenter_finds_words_and_is_asked_for_by_extra(monkeypatch):
    pytest.importorskip("rjieba")
    cut, how = cutter("auto")
    assert "北京大学" in words("我在北京大学读书", cut) and "rjieba" in how
    assert cutter("characters")[0]("北京") == ["北", "京"]
    monkeypatch.setitem(__import__("sys").modules, "rjieba", None)
    assert "characters" in cutter("auto")[1]
    with pytest.raises(MissingExtra, match=r"danlu\[zh\]"):
        cutter("words")


@pytest.fixture
def toy():
    """A plane: royalty to the right, women up."""
    places = {"man": (1, 0.1), "woman": (1, 1), "king": (3, 0.1), "queen": (3, 1), "stone": (-1, -1), "boy": (1, 0.15)}
    return WordVectors(list(places), [9, 8, 7, 6, 5, 4], np.array(list(places.values()), np.float32))


def test_nearest_words_by_cosine_the_word_itself_left_out(toy):
    assert [word for word, _ in toy.nearest("man", 2)] == ["boy", "king"]
    assert toy.similarity("man", "king") == pytest.approx(3.01 / (1.01**0.5 * 9.01**0.5), rel=1e-5)


def test_analogies_leave_out_the_words_of_the_question(toy):
    rows = np.array([[toy.rows[word] for word in ("man", "woman", "king")]])
    assert toy.words[toy.answers(rows)[0]] == toy.analogy("man", "woman", "king")[0][0] == "queen"


def test_a_word_without_a_vector_is_named(toy):
    with pytest.raises(BadInput, match=r"'dragon' has no vector.*man, woman"):
        toy.nearest("dragon")


def test_a_folder_gives_back_what_was_saved_and_says_what_is_wrong_with_it(toy, tmp_path):
    toy.save(tmp_path)
    again = WordVectors.open(tmp_path)
    assert (again.words, again.counts) == (toy.words, toy.counts) and np.array_equal(again.vectors, toy.vectors)
    (tmp_path / "vocabulary.tsv").write_text("man\t9\n")
    with pytest.raises(DamagedArtifact, match="1 words and 6 vectors"):
        WordVectors.open(tmp_path)
    (tmp_path / "vectors.safetensors").write_bytes(b"broken")
    with pytest.raises(DamagedArtifact):
        WordVectors.open(tmp_path)
    with pytest.raises(NotAnArtifact, match="danlu vectors"):
        WordVectors.open(tmp_path / "none")
