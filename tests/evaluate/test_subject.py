"""The same ids have the same figures, whoever asks beside them and by whatever path."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluate import judged_model
from tests.tiny import write_tiny

from danlu.core.errors import BadInput
from danlu.engine.model import load
from danlu.engine.request import Sampling
from danlu.evaluate.subject import EXACT, Pair, Subject, plain_likelihood

PAIRS = [Pair(before, after) for before, after in [
    ((5, 9, 12, 7) * 11, (4, 8, 15)), ((5, 9, 12, 7) * 11, (16,)), ((5, 9, 12, 7) * 11, (4, 8, 16)), ((3,), (9, 9, 9, 9)),
    ((250, 17, 4), (31, 3)), (tuple(range(3, 60)), (60, 61)),
]]  # fmt: skip
"""Among them three that share a beginning of several blocks, and two where one is the other's beginning."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(judged_model.write(tmp_path_factory.mktemp("subject")))


def asked(model, pairs, **serving):
    with Subject(model, EXACT.model_copy(update=serving)) as subject:
        return subject.likelihoods(pairs), subject.kernel


def test_a_score_is_the_same_to_the_last_bit_whatever_the_batch(model):
    alone = []
    for pair in PAIRS:
        (found,), kernel = asked(model, [pair], rows=1)
        alone.append(found)
    for rows, batch_tokens, order in ((1, 256, 1), (2, 7, -1), (16, 64, 1), (16, 1024, -1)):
        found, kernel = asked(model, PAIRS[::order], rows=rows, batch_tokens=batch_tokens)
        if "exact" not in kernel:
            pytest.skip("no C compiler here, so no kernel that promises the last bit")
        assert found[::order] == alone, (rows, batch_tokens)


@pytest.mark.parametrize("runner", ["packed", "solo"])
def test_every_runner_agrees_with_the_plain_twin(model, runner):
    found, _ = asked(model, PAIRS, runner=runner, rows=3)
    twins = [plain_likelihood(model, pair) for pair in PAIRS]
    assert [one.nats for one in found] == pytest.approx([one.nats for one in twins], abs=1e-4)
    assert [(one.greedy, one.tokens) for one in found] == [(one.greedy, one.tokens) for one in twins]


@pytest.mark.parametrize("family", ["gpt2", "mamba", "lstm", "t5"])
def test_other_families_too(family, tmp_path):
    write_tiny(tmp_path, family)
    model = load(tmp_path)
    found, _ = asked(model, PAIRS[3:5])
    assert [one.nats for one in found] == pytest.approx([plain_likelihood(model, pair).nats for pair in PAIRS[3:5]], abs=1e-4)


@given(st.lists(st.integers(3, 300), min_size=1, max_size=9), st.lists(st.integers(3, 300), min_size=1, max_size=5))
@settings(max_examples=10, deadline=None)
def test_likelihoods_of_pieces_add_up(model, before, after):
    whole, *parts = asked(model, [Pair(tuple(before), tuple(after)),
                                  *(Pair((*before, *after[:at]), (after[at],)) for at in range(len(after)))])[0]  # fmt: skip
    assert whole.nats == pytest.approx(sum(one.nats for one in parts), abs=1e-4)
    assert whole.greedy == all(one.greedy for one in parts)


def test_the_last_token_needs_no_room(model):
    full = Pair(tuple(np.arange(model.context) % 300), (7,))
    found, _ = asked(model, [full, PAIRS[3]])
    assert found[0] == plain_likelihood(model, full)
    with Subject(model) as subject, pytest.raises(BadInput, match="do not fit the context"):
        subject.likelihoods([Pair((*full.before, 3), (7,))])
    for odd in (Pair((), (1,)), Pair((1,), ())):
        with Subject(model) as subject, pytest.raises(BadInput, match="at least one token"):
            subject.likelihoods([odd])


def test_answers_are_the_models_own_and_say_whether_they_ended(model):
    prompts = [(5, 9, 12), (3,), (250, 17)]
    with Subject(model) as subject:
        found = subject.answers(prompts, room=8)
        drawn = [subject.answers([prompt], Sampling(temperature=1), 8, [seed])[0] for seed, prompt in enumerate(prompts)]
        together = subject.answers(prompts, Sampling(temperature=1), 8, [0, 1, 2])
    for prompt, answer in zip(prompts, found, strict=True):
        ids = list(prompt)
        for token in answer.ids:
            assert token == int(model.logits([ids])[0, -1, : model.tokenizer.vocab_size].argmax())
            ids.append(token)
        assert answer.ended == (answer.ids[-1] in model.ends) and len(answer.ids) <= 8
    assert together == drawn
    with Subject(model) as subject:
        at, stop = next((at, one.text[1:3]) for at, one in enumerate(found) if len(one.text) > 3)
        (stopped,) = subject.answers([prompts[at]], Sampling(temperature=0, stop=[stop]), 8)
    assert stopped.ended and stop not in stopped.text


def test_a_live_subject_sees_the_weights_of_the_moment(tmp_path):
    model = load(judged_model.write(tmp_path))
    with Subject(model, live=True) as subject:
        before = subject.likelihoods(PAIRS)
        with torch.no_grad():
            model.model.get_parameter("model.norm.weight").mul_(0.5)
        subject.close()  # what it remembers of old weights goes
        after = subject.likelihoods(PAIRS)
    assert [one.nats for one in after] == pytest.approx([plain_likelihood(model, pair).nats for pair in PAIRS], abs=1e-4)
    assert all(one.nats != other.nats for one, other in zip(before, after, strict=True))
