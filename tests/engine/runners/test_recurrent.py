"""The runner of constant memories: every such family gives the logits of its own forward, whatever else is in the step."""

import numpy as np
import pytest
from tests.engine.runners.mixed import CAUSAL, close, opened, play, tables, texts, whole

from danlu.engine.runners.recurrent import RecurrentRunner, unfit
from danlu.engine.work import Piece, RowFault

FIT = [name for name in CAUSAL if unfit(opened(name)) is None]
NONE = np.empty(0, np.int32)


def test_who_is_served_and_why_others_are_not():
    assert set(FIT) == {"lstm", "mamba", "mamba2", "ngram", "rwkv", "rwkv7"}
    assert "LayerState" in unfit(opened("bamba")) and "LayerState" in unfit(opened("llama"))
    assert "left to right" in unfit(opened("t5"))
    with pytest.raises(ValueError, match="LayerState"):
        RecurrentRunner(opened("bamba"))


@pytest.mark.parametrize("family", FIT)
@pytest.mark.parametrize("wants", [None, 1])
def test_steps_of_mixed_pieces_equal_each_sequence_alone(family, wants):
    model, ids = opened(family), texts()
    found = play(RecurrentRunner(model), ids, tables(0, 0), wants=wants)
    wanted = whole(model, ids)
    if wants:
        found, wanted = ({row: logits[-1:] for row, logits in rows.items()} for rows in (found, wanted))
    close(found, wanted)


@pytest.mark.parametrize("family", FIT)
def test_many_rows_come_and_go_and_none_finds_anothers_memory(family):
    model, text = opened(family), texts()[30]
    runner = RecurrentRunner(model)
    wanted = whole(model, {0: text[:4]})[0]
    for first in range(0, 30, 10):  # more rows at once than the pool begins with
        rows = range(first, first + 10)
        runner.run([Piece(row, np.array([row % 31, 3, 5]), 0, NONE, 0) for row in rows])
        for row in rows[::2]:
            runner.forget(row)
        fresh = [Piece(100 + row, text[:1], 0, NONE, 1) for row in rows]
        found = [logits[0] for logits in runner.run(fresh)]
        for place in range(1, 4):
            np.testing.assert_allclose(found, [wanted[place - 1]] * len(found), rtol=1e-4, atol=1e-4)
            found = [
                logits[0]
                for logits in runner.run([Piece(100 + row, text[place : place + 1], place, NONE, 1) for row in reversed(rows)])
            ]
        for row in rows:
            runner.forget(100 + row)


@pytest.mark.parametrize("family", FIT)
def test_a_step_that_fails_is_not_half_done(family):
    model, ids = opened(family), texts()
    runner = RecurrentRunner(model)
    runner.run([Piece(1, ids[30][:5], 0, NONE, 0)])
    good = Piece(1, ids[30][5:6], 5, NONE, 1)
    with pytest.raises(RowFault, match="not among the 31") as fault:
        runner.run([good, Piece(2, np.array([3, 40]), 0, NONE, 1)])
    assert fault.value.row == 2
    np.testing.assert_allclose(runner.run([good])[0], whole(model, {0: ids[30][:6]})[0][5:], rtol=1e-4, atol=1e-4)
    with pytest.raises(RowFault, match="holds 6 tokens, not 5"):
        runner.run([good])
    assert runner.rewind(1, 6) and not runner.rewind(1, 5)
