"""Before and after a run: nothing changes where nothing was done, and each line moves when its own thing is done."""

import contextlib
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.evaluate import judged_model

from danlu.core.page import Page
from danlu.engine.model import load
from danlu.evaluate import change
from danlu.evaluate.change import Probes, Question, questions_of, spread
from danlu.evaluate.how import How
from danlu.evaluate.subject import plain_likelihood, plain_logprobs
from danlu.evaluate.tasks import TASKS

TEXTS = [" ".join(judged_model.CORPUS) * 4, "The furnace was lit. " * 30]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load(judged_model.write(tmp_path_factory.mktemp("change")))


@pytest.fixture(scope="module")
def questions(base):
    random = np.random.default_rng(0)
    letters = [base.tokenizer.encode(letter)[0] for letter in "qwzjxkv"]
    found = []
    for _ in range(12):
        before, after = tuple(map(int, random.integers(3, 300, 9))), tuple(map(int, random.choice(letters, 4)))
        found.append(Question(before, (*after, base.tokenizer.eos_id), base.tokenizer.decode(after)))
    return found


@pytest.fixture(scope="module")
def tuned(base, questions):
    """The base taught the answers by heart, and to stop behind them."""
    model = replace(base, model=copy.deepcopy(base.model).train(), _prepared=None)
    optimiser = torch.optim.Adam(model.model.parameters(), lr=3e-3)
    ids = torch.tensor([[*one.before, *one.after] for one in questions])
    for _ in range(60):
        hidden = model.model.hidden(ids[:, :-1])[:, 8:]
        loss = model.model.cross_entropy_sum(hidden.flatten(0, 1), ids[:, 9:].flatten()) / ids[:, 9:].numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    return model


def lines_of(before, after, probes, **more):
    facts = [change.measure(model, probes) for model in (before, after)]
    return {line.name: line for line in change.compare(*facts, change.drift(after, before, facts[1], **more))}


def test_two_identical_models_are_the_same_in_every_line(base, questions):
    probes = Probes(TEXTS, questions, [TASKS.build(TASKS["arithmetic"].Config(questions=5, shots=1))], room=12,
                    how=How(overlong="truncate"))  # fmt: skip
    lines = lines_of(base, base, probes)
    assert {line.verdict for line in lines.values()} == {"same"}
    assert "arithmetic: numeric_match" in lines and len(lines) == 8
    assert all(line.change is None or line.change.value == 0 for line in lines.values())
    assert lines["KL from the base, nats a token"].after.value == 0


def test_what_was_learned_shows_where_it_was_learned(base, tuned, questions):
    lines = lines_of(base, tuned, Probes(TEXTS, questions, room=12))
    verdicts = {name: line.verdict for name, line in lines.items()}
    assert verdicts["loss on held-out answers, nats a token"] == "better"
    assert verdicts["held-out answers matched exactly"] == "better" == verdicts["ended by itself"]
    assert lines["held-out answers matched exactly"].after.value == 1
    assert verdicts["tokens of an answer"] == "less" and lines["tokens of an answer"].after.value == 5
    bits = lines["bits per byte of held-out text"]
    assert bits.before.value != bits.after.value and bits.change.standard_error > 0
    assert verdicts["KL from the base, nats a token"] == "moved"


def test_the_loss_and_the_distance_are_those_of_the_definition(base, tuned, questions):
    facts = change.measure(tuned, Probes((), questions, room=12))
    loss = next(figure for figure in facts.figures if figure.name.startswith("loss"))
    twins = [plain_likelihood(tuned, change.Pair(one.before, one.after)).nats for one in questions]
    assert loss.value == pytest.approx(-sum(twins) / (5 * len(questions)), rel=1e-5)
    moved = change.drift(tuned, base, facts)
    nats = 0.0
    for prompt, answer in facts.drawn:
        logp, logq = (plain_logprobs(model, prompt, answer).double() for model in (tuned, base))
        nats += float(torch.nn.functional.kl_div(logq, logp, reduction="sum", log_target=True))
    assert moved.value == pytest.approx(nats / sum(len(answer) for _, answer in facts.drawn), rel=1e-4)


def test_the_distance_agrees_with_drawing_alone(base, questions):
    """Mean of log p - log q over tokens drawn from p: the usual estimate, noisier, of the same thing."""
    near = replace(base, model=copy.deepcopy(base.model), _prepared=None)
    with torch.no_grad():
        near.model.embedding.mul_(1.1)
    facts = change.measure(near, Probes((), questions * 8, room=10))
    drawn = np.array([
        plain_likelihood(near, change.Pair(*one)).nats - plain_likelihood(base, change.Pair(*one)).nats for one in facts.drawn
    ])  # fmt: skip
    tokens = sum(len(answer) for _, answer in facts.drawn)
    found = change.drift(near, base, facts).estimate()
    assert abs(drawn.sum() / tokens - found.value) < 4 * drawn.std() * len(drawn) ** 0.5 / tokens
    assert found.standard_error < drawn.std() * len(drawn) ** 0.5 / tokens


def test_one_module_serves_as_both_where_an_adapter_can_be_left_out(base, questions):
    module = copy.deepcopy(base.model)
    both = replace(base, model=module, _prepared=None)
    weight = module.get_parameter("model.norm.weight")

    @contextlib.contextmanager
    def off():
        with torch.no_grad():
            kept = weight.clone()
            weight.copy_(base.model.get_parameter("model.norm.weight"))
            yield
            weight.copy_(kept)

    with torch.no_grad():
        weight.mul_(1.3)
    facts = change.measure(both, Probes((), questions, room=6))
    assert change.drift(both, both, facts, off).value == pytest.approx(change.drift(both, base, facts).value, rel=1e-6)
    assert change.drift(both, both, facts).value == 0


def test_measuring_leaves_the_model_as_it_was(base, questions):
    base.model.train()
    before = {name: part.clone() for name, part in base.model.state_dict().items()}
    change.measure(base, Probes(TEXTS[:1], questions[:2], room=4))
    assert base.model.training
    assert all(torch.equal(part, before[name]) for name, part in base.model.state_dict().items())
    base.model.eval()


def test_questions_are_the_runs_of_targets(base):
    ids, targets = [5, 6, 7, 8, 9, 10], [-100, 7, 8, -100, 10, 0]
    found = questions_of(ids, targets, base.tokenizer, frozenset({0}))
    assert [(one.before, one.after) for one in found] == [((5, 6), (7, 8)), ((5, 6, 7, 8, 9), (10, 0))]
    assert found[1].truth == base.tokenizer.decode([10])


def test_prompts_without_room_are_counted(base, questions):
    long = Question(tuple([7] * 90), (3,), "x")
    facts = change.measure(base, Probes((), [*questions, long], room=12))
    assert facts.skipped == 1 and len(facts.answers) == len(questions)
    page = Page("t")
    change.add_to(page, change.compare(facts, facts), facts, facts, base.tokenizer)
    assert "1 held-out prompt(s) do not fit" in page.render() and "<svg" in page.render()


def test_the_record_is_plain_and_the_summary_names_every_line(base, questions):
    import json

    facts = change.measure(base, Probes(TEXTS[:1], questions, room=4))
    lines = change.compare(facts, facts, change.drift(base, base, facts))
    assert json.loads(json.dumps(change.figures(lines)))["ended by itself"]["verdict"] == "same"
    assert all(line.name in change.summary(lines) for line in lines)
    with pytest.raises(ValueError, match="different things"):
        change.compare(facts, change.measure(base, Probes((), questions, room=4)))


def test_a_few_questions_stand_for_many():
    every = [Question((at,), (), "") for at in range(50)]
    few = spread(every, 7, seed=3)
    assert len(few) == 7 and few == spread(every, 7, seed=3) != spread(every, 7, seed=4)
    assert [one.before[0] for one in few] == sorted(one.before[0] for one in few)
    assert spread(every, 80) == every
