"""Scores of pairs: accuracy beside the length baselines, all checked against counting by hand or by search."""

import math

import numpy as np
import pytest
from tests.objectives.judged import ASKED, chat_tokenizer, pair_documents, said, write_chat_model

from danlu.core.errors import BadInput, PromptTooLong
from danlu.engine.heads import HeadedModel, save_headed
from danlu.evaluate import labelled, preferences
from danlu.evaluate.preferences import Pair, calibration_error, judge, length_wins, threshold_wins
from danlu.models.heads import HeadConfig, attach, load_headed
from danlu.models.weights import load_model


def test_figures_of_four_pairs_by_hand():
    """Right, wrong, a tie, right; longer wins twice, one pair is equally long."""
    pairs = [Pair(2, 1, 9, 3), Pair(-1, 1, 8, 2), Pair(0, 0, 3, 3), Pair(3, 0, 2, 7)]
    found = {name: one.value for name, one in judge(pairs).items()}
    assert found["accuracy"] == 2.5 / 4 and found["length_accuracy"] == 2.5 / 4
    assert found["margin"] == pytest.approx((1 - 2 + 0 + 3) / 4)
    assert found["log_loss"] == pytest.approx(np.mean([math.log(1 + math.exp(-margin)) for margin in (1, -2, 0, 3)]))
    assert found["threshold_accuracy"] == pytest.approx(3.5 / 4)  # shorter up to 7, longer beyond: all but the tie
    assert found["above_length"] == pytest.approx(-1 / 4)
    for one in judge(pairs).values():
        assert math.isfinite(one.low) and one.low <= one.high


def test_the_threshold_is_the_best_of_all_rules():
    random = np.random.default_rng(3)
    for size in (1, 2, 7, 40):
        long, short = random.integers(1, 9, (2, size))
        longer = (long > short) + 0.5 * (long == short)
        most = np.maximum(long, short)
        best = max(float(np.where((most <= at) != flipped, longer, 1 - longer).mean()) for at in range(10) for flipped in (0, 1))
        assert threshold_wins(long, short).mean() == pytest.approx(best)
        assert threshold_wins(long, short).mean() >= length_wins(long, short).mean() >= 0.5


def test_shorter_may_be_the_better_rule():
    assert length_wins(np.array([1, 2, 9]), np.array([5, 6, 7])).tolist() == [1, 1, 0]


def test_calibration_of_honest_and_of_boastful_scores():
    odds = math.log(0.8 / 0.2)
    honest = np.array([odds] * 8 + [-odds] * 2)  # sure of 80 %, right in 80 %
    assert calibration_error(honest) == pytest.approx(0, abs=1e-9)
    assert calibration_error(honest * 50) == pytest.approx(0.2, abs=1e-6)


def test_no_pair_is_an_error():
    with pytest.raises(BadInput, match="pair"):
        judge([])


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    folder = write_chat_model(tmp_path_factory.mktemp("reward") / "body", noise=0.05, max_position_embeddings=200)
    model = attach(load_model(folder), HeadConfig(task="reward"), seed=3).eval()
    place = folder.parent / "reward"
    save_headed(model, chat_tokenizer(), place)
    return HeadedModel(load_headed(place), chat_tokenizer(), place)


def test_a_reward_model_is_judged_by_the_pairs_of_its_dataset(live):
    documents = pair_documents([*ASKED, ("x", "same", "same")])
    pairs = preferences.score(live, documents)
    assert len(pairs) == 5 and pairs[0].chosen_tokens == len("hello you") + 2  # the end of the turn, and of its line
    alone = live.score([[*said("user", ASKED[3][0]), *said("assistant", ASKED[3][2])]])
    assert pairs[3].rejected == pytest.approx(alone[0], rel=1e-5)
    judged = labelled.score(live, documents)
    assert (
        judged.samples == 5
        and judged.values["accuracy"] == judge(pairs)["accuracy"]
        and "above length" in labelled.summary(judged)
    )
    assert labelled.rows([judged])


def test_long_conversations_raise_or_are_left_out_or_cut(live):
    documents = pair_documents([*ASKED, ("x", "y", "z" * 600)])
    with pytest.raises(PromptTooLong, match="conversation 5"):
        preferences.score(live, documents)
    assert len(preferences.score(live, documents, "drop")) == 5 and len(preferences.score(live, documents, "truncate")) == 6


def test_other_heads_give_no_rewards_and_a_reward_model_no_classes(live):
    with pytest.raises(Exception, match="score"):
        live.classify("a text")
    with pytest.raises(BadInput, match="no conversation"):
        live.score([])
