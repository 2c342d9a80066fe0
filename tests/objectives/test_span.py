"""Span corruption loses nothing, hides as much as it says, keeps documents apart, and depends on the row's seed alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from danlu.core.errors import BadSettings
from danlu.data.pack import Packer
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.objectives.pieces import Piece, pieces
from danlu.objectives.span import MARKS
from tests.objectives.rows import TEXTS, filled, learned, packed, token_set

TOKENIZER = learned(*MARKS)
MARK_IDS = [TOKENIZER.special_tokens[mark] for mark in MARKS]


def span(**settings):
    return OBJECTIVES.build(OBJECTIVES["span"].Config(**settings), TOKENIZER)


def rebuilt(source, target):
    """The text that a source and its target tell together, end included."""
    stretches, order = {}, []
    for token in target[:-1]:
        if token in MARK_IDS:
            order.append(token)
            stretches[token] = []
        else:
            stretches[order[-1]].append(token)
    assert order == MARK_IDS[: len(order)] and stretches.pop(order[-1]) == []
    found = [part for token in source for part in (stretches.pop(token) if token in stretches else [token])]
    assert not stretches and not set(found) & set(MARK_IDS)
    return found


@pytest.mark.parametrize("settings", [{}, {"rate": 0.5, "mean_span": 1.0}, {"rate": 0.9, "mean_span": 9.0}, {"rate": 0.01}])
def test_source_and_target_rebuild_every_piece(settings, tmp_path):
    objective = span(**settings)
    for seed, row in enumerate(packed(tmp_path, TOKENIZER, 23, 12)):
        for piece, (source, target) in zip(pieces(row, objective.bos, objective.eos), objective.pairs(row, seed), strict=True):
            assert rebuilt(source.tolist(), target.tolist()) == [*piece.text.tolist(), objective.eos]
            assert target[-1] == objective.eos


def test_an_epoch_holds_every_token_of_the_text_once(tmp_path):
    """Documents that rows cut go on where they were cut."""
    objective, packer = span(), Packer(token_set(tmp_path, TOKENIZER), 17, seed=1)
    found, left = {}, packer.pairs_per_epoch
    for start in range(0, packer.pairs_per_epoch, 17):
        row = packer.cut(start)
        for (document, _, _), piece in zip(row.origin.tolist(), pieces(row, objective.bos, objective.eos), strict=True):
            if left > 0:  # the last row goes on into the next epoch
                found.setdefault(document, []).extend(piece.text.tolist())
            left -= len(piece.ids) - 1
    assert [TOKENIZER.decode(found[document]) for document in range(len(TEXTS))] == TEXTS


@pytest.mark.parametrize(("rate", "mean"), [(0.15, 3.0), (0.3, 5.0)])
def test_as_much_is_hidden_as_the_settings_say(rate, mean):
    """Stretches of one token are as likely at the text's ends as anywhere, up to the ends themselves."""
    objective = span(rate=rate, mean_span=mean)
    text, rng = np.arange(200, 400), np.random.default_rng(0)
    hidden, places = [], np.zeros(200)
    for _ in range(300):
        source, _ = objective.hide(Piece(np.concatenate([[objective.bos], text]), objective.bos, None), rng)
        marks = np.isin(source, MARK_IDS)
        hidden.append((200 - (~marks).sum() + 1, marks.sum()))  # the end stands in the source too
        places += ~np.isin(text, source)
    assert {one for one, _ in hidden} == {round(200 * rate)}
    assert {two for _, two in hidden} == {round(200 * rate / mean)}
    assert abs(places[:20].mean() / places.mean() - 1) < 0.25 and places.min() > 0


@pytest.mark.parametrize("tokens", range(1, 9))
def test_the_shortest_texts(tokens):
    objective = span()
    piece = Piece(np.array([objective.bos, *range(200, 200 + tokens - 1), objective.eos]), objective.bos, objective.eos)
    source, target = objective.hide(piece, np.random.default_rng(0))
    assert rebuilt(source.tolist(), target.tolist()) == [*range(200, 200 + tokens - 1), objective.eos]


def test_batches_number_pairs_alike_on_both_sides_and_count_what_they_read(tmp_path):
    objective = span()
    rows = packed(tmp_path, TOKENIZER, 23, 5)
    rows[2] = filled(rows[2], 9)
    batch = objective.batch(rows, range(5))
    assert batch.read.tolist() == [23, 23, 9, 23, 23]
    for index, row in enumerate(rows):
        pairs = objective.pairs(row, index)
        for number, (source, target) in enumerate(pairs):
            assert batch.source[index][batch.source_documents[index] == number].tolist() == source.tolist()
            here = batch.documents[index] == number
            assert batch.targets[index][here].tolist() == target.tolist()
            assert batch.ids[index][here].tolist() == [TOKENIZER.start_id, *target[:-1]]
        assert (batch.targets[index][batch.documents[index] == len(pairs)] == -100).all()


def test_the_loss_is_that_of_each_pair_alone(tmp_path):
    objective, model = span(), MODELS["t5"].tiny(vocab_size=TOKENIZER.vocab_size)
    rows = packed(tmp_path, TOKENIZER, 23, 3)
    batch = objective.batch(rows, [5, 6, 7])
    wanted = 0.0
    for row, seed in zip(rows, [5, 6, 7], strict=True):
        for source, target in objective.pairs(row, seed):
            ids = torch.tensor([[TOKENIZER.start_id, *target[:-1]]])
            logits = model(ids, source_BS=torch.from_numpy(source)[None])
            wanted = wanted + F.cross_entropy(logits[0], torch.from_numpy(target), reduction="sum")
    torch.testing.assert_close(objective.loss_sum(model, batch), wanted, rtol=1e-4, atol=1e-3)


def test_a_row_depends_on_its_own_seed_alone(tmp_path):
    objective, rows = span(), packed(tmp_path, TOKENIZER, 40, 3)
    together = objective.batch(rows, [1, 2, 3])
    alone = objective.batch(rows[1:2], [2])
    assert torch.equal(alone.source[0], together.source[1][: alone.source.size(1)])
    assert not torch.equal(objective.batch(rows[1:2], [9]).source, alone.source)


@pytest.mark.parametrize("row_tokens", [2, 16, 128, 512])
def test_one_piece_fills_a_row_and_never_outgrows_it(row_tokens):
    objective = span()
    reads = objective.reads(row_tokens)
    for tokens in range(1, reads + 1):
        hidden, spans = objective.counts(tokens)
        assert tokens - hidden + spans + 1 <= row_tokens
    assert reads >= row_tokens - 1 and (row_tokens != 512 or reads == 568)  # as many as T5 reads


def test_more_stretches_than_marks_are_refused_before_training():
    with pytest.raises(BadSettings, match="100 marks"):
        span().reads(4096)
