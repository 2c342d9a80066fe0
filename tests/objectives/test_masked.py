"""What is hidden: how much, what, together with what; and the loss is the model's on the hidden tokens alone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from danlu.core.errors import TokenizerMismatch
from danlu.data.pack import Row
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS, MASK
from danlu.tokenizer.trainers import TRAINERS
from tests.tiny import tiny_tokenizer

SPECIAL = (*DEFAULT_SPECIAL_TOKENS, MASK)
TEXT = (
    "The old monk found a golden lamp, and 年老的道士在山谷里找到了一盏油灯。炉火纯青，丹成九转。 It shone.\n\n    def f(x): x\n"
    * 6
)


@pytest.fixture(scope="module")
def bpe():
    return TRAINERS.build(TRAINERS["bpe"].Config()).train(iter([TEXT * 4]), SPECIAL, vocab_size=340)


def masked(tokenizer, **settings):
    return OBJECTIVES.build(OBJECTIVES["masked"].Config(**settings), tokenizer)


def row_of(tokenizer, text=TEXT, tokens=200, filling=0, documents=1):
    """A packed row: documents that open with bos, then filling."""
    ids = np.array(([0, *tokenizer.encode(text)] * 9)[: tokens - filling], np.int64)
    numbers = np.sort(np.arange(len(ids)) % documents).astype(np.int32)
    ids, targets, numbers = (
        np.concatenate([part, np.full(filling, value, part.dtype)])
        for part, value in ((ids, 0), (np.roll(ids, -1), -100), (numbers, documents))
    )
    return Row(ids, targets, numbers, np.zeros((0, 3), np.int64))


def character_of(tokenizer, row):
    """Of each token: the (first, last) character that it is part of."""
    owner = [at for at, letter in enumerate(tokenizer.decode(row.ids)) for _ in letter.encode()]
    ends = np.cumsum([len(tokenizer.token_bytes(int(token))) for token in row.ids])
    starts = np.concatenate([[0], ends[:-1]])
    return [(owner[start], owner[end - 1]) for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize("settings", [{}, {"whole_words": False}, {"han": "bigrams"}])
def test_the_rate_and_the_three_shares_hold_on_average(bpe, rate, settings):
    row, objective = row_of(bpe), masked(bpe, rate=rate, masked=0.6, random=0.25, **settings)
    eligible = int((row.ids > 3).sum())
    asked = hidden = kept = 0
    for seed in range(400):
        ids, targets = objective.hide(row, seed)
        at = targets != -100
        asked += at.sum()
        hidden += (ids[at] == 3).sum()
        kept += (ids[at] == row.ids[at]).sum()
    assert asked / (400 * eligible) == pytest.approx(rate, rel=0.02)
    assert hidden / asked == pytest.approx(0.6, abs=0.02)
    assert kept / asked == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("settings", [{}, {"whole_words": False}, {"han": "characters"}, {"han": "bigrams"}])
def test_targets_are_the_tokens_themselves_and_nothing_else_changes(bpe, settings):
    row = row_of(bpe, filling=17, documents=3)
    for seed in range(50):
        ids, targets = masked(bpe, **settings).hide(row, seed)
        at = targets != -100
        assert at.sum() >= 1 and (targets[at] == row.ids[at]).all() and (ids[~at] == row.ids[~at]).all()
        assert not (at & (row.ids <= 3)).any(), "special tokens are never hidden"
        assert not at[-17:].any(), "nor is filling"
        assert not np.isin(ids[at], [0, 1, 2]).any(), "nor does a special token take the place of another"


@pytest.mark.parametrize("make", ["bpe", "bytes"])
@pytest.mark.parametrize("settings", [{}, {"whole_words": False}, {"han": "characters"}])
def test_a_character_is_never_half_hidden(bpe, make, settings):
    tokenizer = bpe if make == "bpe" else tiny_tokenizer(MASK)
    row = row_of(tokenizer, tokens=220)
    pieces = character_of(tokenizer, row)
    shared = [at for at in range(1, len(pieces)) if pieces[at][0] == pieces[at - 1][1]]
    assert len(shared) > 10, "some characters are several tokens"
    for seed in range(60):
        ids, targets = masked(tokenizer, **settings).hide(row, seed)
        fate = np.where(targets == -100, 0, np.where(ids == 3, 1, 2))
        assert all(fate[at] == fate[at - 1] for at in shared if row.ids[at] > 3 and row.ids[at - 1] > 3)


def words_hidden(tokenizer, text, **settings):
    """Runs of hidden tokens as text, over many seeds."""
    row = row_of(tokenizer, text, tokens=len(tokenizer.encode(text)) + 1)
    found = set()
    for seed in range(300):
        _, targets = masked(tokenizer, rate=0.05, **settings).hide(row, seed)
        found.add(tokenizer.decode(targets[targets != -100]))
    return found


def test_whole_words_are_hidden_with_the_blank_before_them():
    tokenizer = tiny_tokenizer(MASK)
    found = words_hidden(tokenizer, "The old monk, 山谷里找到", han="bigrams")
    assert {"The", " old", " monk", ",", "谷里", "找到"} <= found
    assert "onk" not in found and "monk" not in found
    assert {"m", "o", "山"} <= words_hidden(tokenizer, "The old monk, 山谷里找到", whole_words=False)
    assert "谷" in words_hidden(tokenizer, "The old monk, 山谷里找到", han="characters")


def test_words_of_a_dictionary():
    pytest.importorskip("rjieba")
    assert {"北京大学", "读书"} <= words_hidden(tiny_tokenizer(MASK), "我在北京大学读书", han="words")


def test_wordpiece_joins_by_its_prefix_and_han_by_words():
    pytest.importorskip("rjieba")
    from danlu.tokenizer.definition import assemble
    from danlu.tokenizer.tokenizer import Tokenizer

    vocab = {name: at for at, name in enumerate(["[MASK]", "play", "##ing", "the", "北", "京", "雨", "[UNK]"])}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
             "vocab": vocab}  # fmt: skip
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": False}
    tokenizer = Tokenizer.build(assemble(model, ["[MASK]"], decoder=decoder), mask_token="[MASK]")
    ids = np.array([3, 1, 2, 4, 5, 6], np.int64)
    row = Row(ids, ids, np.zeros(6, np.int32), np.zeros((0, 3), np.int64))
    objective = masked(tokenizer, rate=0.01, han="words")
    found = {tuple(ids[objective.hide(row, seed)[1] != -100].tolist()) for seed in range(200)}
    assert found == {(3,), (1, 2), (4, 5), (6,)}


def test_a_row_is_a_function_of_its_seed_alone(bpe):
    objective, rows = masked(bpe), [row_of(bpe), row_of(bpe, TEXT[40:], documents=2), row_of(bpe, TEXT[9:])]
    torch.manual_seed(1)
    together = objective.batch(rows, [5, 6, 7])
    torch.manual_seed(2)
    alone = [masked(bpe).batch([row], [seed]) for row, seed in zip(rows, [5, 6, 7], strict=True)]
    for name, part in together.tensors().items():
        assert torch.equal(part, torch.cat([getattr(one, name) for one in alone])), name
    assert not torch.equal(together.ids, objective.batch(rows, [6, 7, 8]).ids)
    assert together.read_count == 600 and together.target_count < 130


def test_a_row_without_text_asks_for_nothing(bpe):
    empty = Row(np.zeros(7, np.int64), np.full(7, -100), np.zeros(7, np.int32), np.zeros((0, 3), np.int64))
    batch = masked(bpe).batch([empty, row_of(bpe, tokens=7)], [1, 2])
    assert (batch.targets[0] == -100).all() and batch.read.tolist() == [0, 7] and (batch.targets[1] != -100).any()


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_loss_and_accuracy_are_of_the_hidden_tokens(bpe, family):
    model = MODELS[family].tiny(vocab_size=bpe.vocab_size, max_position_embeddings=256).eval()
    objective = masked(bpe)
    batch = objective.batch([row_of(bpe, documents=2), row_of(bpe, TEXT[30:])], [3, 4])
    loss = objective.loss_sum(model, batch)
    assert objective.figures() == {"accuracy": 0.0}
    logits, targets = model(batch.ids, documents_BT=batch.documents).flatten(0, 1), batch.targets.flatten()
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets, reduction="sum"))
    with torch.no_grad():
        objective.loss_sum(model, batch)
    assert objective.figures()["accuracy"] == (logits.argmax(-1) == targets).sum()
    assert math.isfinite(loss.item()) and loss.requires_grad


def test_settings_that_do_not_fit_are_refused(bpe):
    with pytest.raises(ValidationError, match="together 1 at most"):
        OBJECTIVES["masked"].Config(masked=0.8, random=0.3)
    with pytest.raises(TokenizerMismatch, match=r"<\|mask\|>"):
        masked(tiny_tokenizer()).hide(row_of(bpe), 0)
    assert OBJECTIVES["masked"].Config().han in ("words", "bigrams")
