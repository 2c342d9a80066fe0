"""An engine over a model that trains writes with the weights of the moment, and says of each token what the trainer says."""

from pathlib import Path

import pytest
import torch
from tests.tiny import tiny_tokenizer

from danlu.core.errors import PromptTooLong
from danlu.engine.live import LiveEngine, folded, kind_for
from danlu.engine.model import Model
from danlu.engine.request import Sampling
from danlu.models import MODELS
from danlu.models.adapters import ADAPTERS
from danlu.models.adapters.base import attach

PROMPTS = [[5, 9, 11], [7, 30, 12, 13, 14, 15, 200], [101]]
SAMPLING = Sampling(max_tokens=9, temperature=1.0)
TOLERANCE = 1e-4
"""Nats between the log-probability of a token by the engine and by the trainer, in float32."""


def model(family="llama", seed=0, **changes):
    tokenizer = tiny_tokenizer()
    made = MODELS[family].tiny(vocab_size=tokenizer.vocab_size, initializer_range=0.3, **changes)
    made.initialise(seed)
    return Model(made, tokenizer, Path(), frozenset({3, 4, 5, 6}))


def said(opened, prompt, ids):
    """Log-probabilities of an answer by the trainer's own function."""
    whole = torch.tensor([prompt + ids])
    hidden = opened.model.hidden(whole[:, :-1])[0, len(prompt) - 1 :]
    return opened.model.token_logprobs(hidden, whole[0, len(prompt) :]).tolist()


def check_agreement(opened, engine=None, tolerance=TOLERANCE):
    written = (engine or LiveEngine(opened)).write(PROMPTS, SAMPLING, 3, seed=4)
    with torch.no_grad():
        opened.model.eval()
        for prompt, answers in zip(PROMPTS, written, strict=True):
            assert len(answers) == 3
            for one in answers:
                assert one.logprobs == pytest.approx(said(opened, prompt, one.ids), abs=tolerance)
                assert one.reason == ("eos" if one.ids[-1] in opened.ends else "length")
                assert one.reason == "eos" or len(one.ids) == 9
                assert not opened.ends & set(one.ids[:-1]), "nothing is written behind the end"
    return written


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gemma2", "mamba"])
def test_engine_and_trainer_agree_on_every_token(family):
    check_agreement(model(family))


@pytest.mark.parametrize("kind", ["native", "packed", "solo"])
def test_every_runner_agrees_with_the_trainer(kind):
    check_agreement(model(), LiveEngine(model(), kind=kind))


@pytest.mark.parametrize("adapter", ["lora", "dora", "prefix", "prompt"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_they_agree_with_an_adapter_laid_on(family, adapter):
    opened = model(family)
    plain = LiveEngine(opened).write(PROMPTS, SAMPLING, 3, seed=4)
    attach(opened.model, ADAPTERS[adapter].Config(), seed=1)
    with torch.no_grad():
        for name, parameter in opened.model.named_parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    written = check_agreement(opened)
    assert [one.ids for answers in written for one in answers] != [one.ids for answers in plain for one in answers]
    assert kind_for(opened) == ("solo" if adapter in ("prefix", "prompt") else "native" if family == "llama" else "packed")


def test_folding_leaves_the_weights_as_they_were():
    opened = model()
    attach(opened.model, ADAPTERS["lora"].Config(), seed=1)
    before = {name: part.clone() for name, part in opened.model.state_dict().items()}
    ids = torch.tensor([[1, 2, 3]])
    expected = opened.model.hidden(ids)
    with folded(opened.model):
        torch.testing.assert_close(opened.model.hidden(ids), expected)
    assert all(torch.equal(part, before[name]) for name, part in opened.model.state_dict().items())
    assert opened.model.model.layers[0].self_attn.q_proj.added is not None and opened.model.adapter is not None


@pytest.mark.parametrize("kind", ["native", "packed"])
def test_what_is_written_depends_on_the_weights_of_now(kind):
    opened = model()
    engine = LiveEngine(opened, kind=kind)
    first = engine.write(PROMPTS, SAMPLING, 2, seed=1)
    assert engine.write(PROMPTS, SAMPLING, 2, seed=1) == first, "the same again"
    assert engine.write(PROMPTS, SAMPLING, 2, seed=2) != first
    opened.model.initialise(7)
    moved = engine.write(PROMPTS, SAMPLING, 2, seed=1)
    assert moved != first
    assert moved == LiveEngine(model(seed=7), kind=kind).write(PROMPTS, SAMPLING, 2, seed=1), "nothing old is remembered"


def test_an_answer_does_not_depend_on_its_neighbours():
    opened = model()
    whole = LiveEngine(opened, kind="native").write(PROMPTS, SAMPLING, 3, seed=1)
    assert LiveEngine(opened, rows=2, step_tokens=3, kind="native").write(PROMPTS, SAMPLING, 3, seed=1) == whole
    shares = [LiveEngine(opened).write([one], SAMPLING, 3, seed=1, first=at)[0] for at, one in enumerate(PROMPTS)]
    assert shares == whole, "bit for bit, however many write them"
    torch_ids = [
        [one.ids for one in answers] for answers in LiveEngine(opened, kind="packed").write(PROMPTS, SAMPLING, 3, seed=1)
    ]
    assert torch_ids == [[one.ids for one in answers] for answers in whole], "and in torch to rounding"


def test_the_model_goes_on_training_as_it_was_and_threads_stay():
    opened = model()
    opened.model.train()
    threads = torch.get_num_threads()
    LiveEngine(opened).write(PROMPTS, SAMPLING)
    assert opened.model.training and torch.get_num_threads() == threads
    opened.model.hidden(torch.tensor([[1, 2, 3]])).sum().backward()
    assert opened.model.embedding.grad is not None


def test_a_prompt_without_room_for_an_answer_is_refused():
    opened = model()
    with pytest.raises(PromptTooLong, match="64"):
        LiveEngine(opened).write([list(range(10, 68))], SAMPLING)
    assert LiveEngine(opened).write([], SAMPLING) == []
