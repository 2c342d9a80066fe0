"""Distillation is TRL's loss on the same rows, whatever the batches; on-policy it closes most of the gap to the teacher."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from danlu.core.errors import Interrupted
from danlu.core.labels import NO_LABEL
from danlu.engine.live import LiveEngine
from danlu.engine.model import Model
from danlu.engine.request import Sampling
from danlu.models import MODELS
from danlu.tokenizer.chat import CHATML, encode_chat
from danlu.train.loop import train
from danlu.train.samples import Samples, in_order
from danlu.train.teacher import HeldTeacher
from danlu.train.watchers.base import Watcher
from tests.objectives.judged import built, chat_tokenizer, document, encoded, said
from tests.train.small_policy import model as small
from tests.train.small_policy import policy_run, prompt, sums, teach, tokenizer

TALKS = [("say hi", "hello you"), ("what is two and two?", "four"), ("你好", "你好！"), ("name a colour", "red")]
KNOWN = chat_tokenizer().vocab_size


def batches(objective, size, talks=TALKS):
    documents = [document(number, messages=said("user", one) + said("assistant", two)) for number, (one, two) in enumerate(talks)]
    return in_order(Samples(encoded(objective, documents), [one.id for one in documents]), objective, size, 64)


def moved(seed, **changes):
    made = MODELS["qwen3"].tiny(vocab_size=KNOWN + 3, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return made


def logits_of(model, batch):
    chosen = batch.targets != NO_LABEL
    return model.logits(model.hidden(batch.ids, documents_BT=batch.documents)[chosen]).float()[:, :KNOWN]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_loss_and_gradients_are_trls_on_the_same_rows(beta, temperature):
    gkd = pytest.importorskip("trl.experimental.gkd.gkd_trainer")
    student, teacher = moved(1), moved(2, num_hidden_layers=3)
    objective = built("distill", beta=beta, temperature=temperature)
    objective.teacher = HeldTeacher(teacher, KNOWN, temperature)
    for batch in batches(objective, 2):
        theirs = gkd.GKDTrainer.generalized_jsd_loss(
            logits_of(student, batch), logits_of(teacher, batch).detach(), None, beta, temperature, reduction="sum"
        )
        slopes = torch.autograd.grad(theirs, list(student.parameters()))
        ours = objective.loss_sum(student, batch)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        for mine, other in zip(torch.autograd.grad(ours, list(student.parameters())), slopes, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


def test_the_sum_does_not_depend_on_how_samples_are_batched_and_figures_are_its_parts():
    student, objective = moved(1), built("distill", sft=0.25)
    objective.teacher = HeldTeacher(moved(2), KNOWN, 1.0)
    totals = []
    with torch.no_grad():
        for size in (1, 2, 4):
            figures = []
            losses = []
            for batch in batches(objective, size):
                losses.append(float(objective.loss_sum(student, batch)))
                figures.append(objective.figures())
            totals.append(sum(losses))
            parts = 0.75 * sum(one["divergence"] for one in figures) + 0.25 * sum(one["nll"] for one in figures)
            assert parts == pytest.approx(totals[-1], rel=1e-5)
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-5)


def test_all_sft_is_sft_and_a_student_that_is_its_teacher_has_nothing_to_learn():
    student = moved(1)
    only, same = built("distill", sft=1.0), built("distill", beta=0.5)
    only.teacher, same.teacher = HeldTeacher(moved(2), KNOWN, 1.0), HeldTeacher(moved(1), KNOWN, 1.0)
    for batch in batches(only, 4):
        chosen = batch.targets != NO_LABEL
        plain = F.cross_entropy(logits_of(student, batch), batch.targets[chosen], reduction="sum")
        torch.testing.assert_close(only.loss_sum(student, batch), plain, rtol=1e-5, atol=1e-5)
        nothing = same.loss_sum(student, batch)
        assert abs(float(nothing.detach())) < 1e-4
        assert max(float(slope.abs().max()) for slope in torch.autograd.grad(nothing, list(student.parameters()))) < 1e-3


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_loss_and_gradients_are_those_of_trls_distillation_trainer(beta):
    trl = pytest.importorskip("trl.trainer.distillation_trainer")
    student, teacher = moved(1), moved(2, hidden_size=48)
    objective = built("distill", beta=beta, temperature=1.5)
    objective.teacher = HeldTeacher(teacher, KNOWN, 1.5)
    batch = next(batches(objective, 4))
    own, other = (one.hidden(batch.ids, documents_BT=batch.documents) for one in (student, teacher))
    theirs = trl._chunked_divergence_loss(
        own, other.detach(), student.output_weight[:KNOWN], teacher.output_weight[:KNOWN].detach(),
        (batch.targets != NO_LABEL).long(), beta, batch.target_count, temperature=1.5,
    )[0]  # fmt: skip
    slopes = torch.autograd.grad(theirs, list(student.parameters()), allow_unused=True)
    ours = objective.loss_sum(student, batch) / batch.target_count
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-5)
    for mine, their in zip(torch.autograd.grad(ours, list(student.parameters())), slopes, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-3, atol=1e-5)


def right(made, pairs):
    """The share of sums that the model's likeliest answer gets right, its end included."""
    end = tokenizer().special_tokens["<|im_end|>"]
    live = LiveEngine(Model(made, tokenizer(), Path(), frozenset({end})))
    asked = [encode_chat(tokenizer(), CHATML, prompt(a, b)) for a, b in pairs]
    written = [choices[0].ids for choices in live.write(asked, Sampling(max_tokens=4, temperature=0.0))]
    return sum(ids == [*tokenizer().encode(str(a + b)), end] for ids, (a, b) in zip(written, pairs, strict=True)) / len(pairs)


def on_policy(folder, student, teacher, pairs, steps, seed=0, **changes):
    run = policy_run(folder, student, "gkd", pairs=pairs, steps=steps, seed=seed, worth=(), **{
        "rate": 1e-2, "beta": 1.0, "rollouts": {"prompts": len(pairs), "answers": 1, "max_tokens": 4}, **changes})  # fmt: skip
    run.batches.objective.teacher = HeldTeacher(teacher, tokenizer().vocab_size, 1.0)
    return run


def test_on_policy_distillation_closes_more_than_half_of_the_gap_to_the_teacher(tmp_path):
    pairs = sums(5)
    teacher = teach(small(48, 2, seed=0), 150, pairs, rate=5e-3)
    student = teach(small(32, 1, seed=10), 40, pairs)
    before, above = right(student, pairs), right(teacher, pairs)
    train(on_policy(tmp_path / "run", student, teacher, pairs, 60))
    after = right(student, pairs)
    assert above - before > 0.5
    assert after - before > 0.5 * (above - before), (before, after, above)


def test_the_teachers_own_student_stays_where_it_is(tmp_path):
    teacher, student = small(16, 1, seed=3), small(16, 1, seed=3)
    run = on_policy(tmp_path / "run", student, teacher, sums(2), 2, beta=0.5)
    batch = run.batches.step(0)[0]
    assert float((batch.weights * (batch.targets != NO_LABEL)).sum()) == pytest.approx(batch.target_count)
    assert abs(float(run.parallel.loss_sum(batch).detach())) < 1e-4


class StopAfter(Watcher):
    def __init__(self, step):
        self.step = step

    def after_step(self, run, facts):
        run.stop.asked = facts.step == self.step


def test_a_run_goes_on_with_the_same_answers_after_it_was_stopped(tmp_path):
    pairs, teacher = sums(3), small(24, 1, seed=5)

    def fresh(folder, steps):
        rollouts = {"prompts": 4, "answers": 2, "max_tokens": 3, "minibatches": 2}
        return on_policy(folder, small(16, 1, seed=4), teacher, pairs, steps, rollouts=rollouts)

    whole = fresh(tmp_path / "whole", 5)
    train(whole)
    first = fresh(tmp_path / "parts", 5)
    first.watchers = [StopAfter(3)]  # inside the second roll-out
    with pytest.raises(Interrupted):
        train(first)
    second = fresh(tmp_path / "parts", 5)
    second.restore(second.checkpoints.latest())
    assert second.step == 3
    train(second)
    for one, two in zip(whole.parallel.model.parameters(), second.parallel.model.parameters(), strict=True):
        assert torch.equal(one, two)
