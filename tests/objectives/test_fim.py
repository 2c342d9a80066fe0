"""Rearranged pieces tell the same text, cut between characters, in orders and shares as set, and fit their rows."""

import numpy as np
import pytest

from danlu.core.errors import BadSettings
from danlu.objectives import OBJECTIVES
from danlu.objectives.fim import MIDDLE, PREFIX, SUFFIX
from danlu.objectives.pieces import Piece, pieces
from tests.objectives.rows import TEXTS, filled, learned, packed

TOKENIZER = learned(PREFIX, MIDDLE, SUFFIX)
BEFORE, INNER, AFTER = (TOKENIZER.special_tokens[name] for name in (PREFIX, MIDDLE, SUFFIX))
EOS = TOKENIZER.eos_id


def fim(**settings):
    return OBJECTIVES.build(OBJECTIVES["fim"].Config(**settings), TOKENIZER)


def whole(text):
    return Piece(np.array([EOS, *TOKENIZER.encode(text), EOS]), EOS, EOS)


def read_back(told, suffix_first=False):
    """Prefix, middle, suffix as tokens; where the suffix came first, prefix and middle are one."""
    ids = [token for token in told.tolist() if token != EOS]
    assert ids[0] == BEFORE and told[-1] == EOS
    first, second = ids.index(AFTER), ids.index(INNER)
    if suffix_first:
        assert first == 1
        return [*ids[second + 1 :]], [], ids[2:second]
    return ids[1:first], ids[second + 1 :], ids[first + 1 : second]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("spm", [0.0, 1.0])
def test_the_parts_tell_the_text_and_are_what_the_tokenizer_makes_of_them(text, spm):
    objective, rng = fim(rate=1.0, spm=spm), np.random.default_rng(0)
    inside = 0
    for _ in range(30):
        before, middle, after = read_back(objective.tell(whole(text), rng, 1000), bool(spm))
        parts = [TOKENIZER.decode(part) for part in (before, middle, after)]
        assert "".join(parts) == text
        if not spm:
            assert [TOKENIZER.encode(part) for part in parts] == [before, middle, after]
            inside += before + middle + after != TOKENIZER.encode(text)
    assert spm or len(text) < 3 or inside  # some cut fell inside a token


def test_a_piece_that_cuts_a_character_in_two_is_cut_between_its_tokens():
    tokens = TOKENIZER.encode("月亮")[1:]  # without the first byte or more
    piece = Piece(np.array([200, *tokens, EOS]), EOS, EOS)
    before, middle, after = read_back(fim(spm=0.0).tell(piece, np.random.default_rng(1), 1000))
    assert before + middle + after == [200, *tokens]


def test_no_piece_outgrows_its_row(tmp_path):
    objective = fim(rate=1.0)
    for row_tokens in (12, 40):
        rows = packed(tmp_path / str(row_tokens), TOKENIZER, objective.reads(row_tokens), 25)
        for seed, row in enumerate(rows):
            found = list(pieces(row, EOS, EOS))
            for piece, told in zip(found, objective.rearrange(row, seed), strict=True):
                assert len(told) - 1 <= row_tokens
                assert len(told) >= len(piece.ids) - 2 + 4


def test_batches_hold_pieces_told_or_left(tmp_path):
    objective, rows = fim(rate=0.5), packed(tmp_path, TOKENIZER, 40, 5)
    rows[1] = filled(rows[1], 11)
    batch = objective.batch(rows, range(5))
    assert batch.read.tolist() == [40, 11, 40, 40, 40]
    rearranged = left = 0
    for index, row in enumerate(rows):
        for number, told in enumerate(objective.rearrange(row, index)):
            here = batch.documents[index] == number
            assert batch.ids[index][here].tolist() == told[:-1].tolist()
            assert batch.targets[index][here].tolist() == told[1:].tolist()
            rearranged += BEFORE in told
            left += BEFORE not in told
        kept = list(pieces(row, EOS, EOS))
        assert (batch.targets[index][batch.documents[index] >= len(kept)] == -100).all()
    assert rearranged and left


def test_with_rate_zero_rows_stay_as_packed(tmp_path):
    rows = packed(tmp_path, TOKENIZER, 40, 4)
    batch, plain = fim(rate=0.0).batch(rows, range(4)), OBJECTIVES.build(OBJECTIVES["causal"].Config()).batch(rows, range(4))
    for name in ("ids", "targets", "documents"):
        assert np.array_equal(getattr(batch, name), getattr(plain, name))


def test_rows_too_short_and_tokenizers_without_an_end_are_refused():
    with pytest.raises(BadSettings, match="row_tokens 8 or more"):
        fim().reads(7)
