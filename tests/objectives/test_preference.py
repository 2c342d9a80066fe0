"""Preference losses by hand, and the laws of their batches: means over pairs however packed, counts, what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from danlu.core import log
from danlu.core.errors import BadInput
from danlu.core.labels import NO_LABEL
from danlu.models.heads import HeadConfig, attach
from danlu.models.weights import load_model
from danlu.objectives import OBJECTIVES
from danlu.objectives.dpo import dpo_losses, hinge_losses, ipo_losses
from danlu.objectives.kto import kto_losses
from danlu.objectives.labelled import TooLong, Useless
from danlu.objectives.orpo import log_not, odds_losses
from danlu.objectives.preference import said as spoken
from danlu.objectives.reward import conversation_ids, reward_losses
from danlu.objectives.simpo import simpo_losses
from danlu.train.samples import pack, read
from tests.objectives.judged import (
    ASKED,
    built,
    chat_tokenizer,
    document,
    encoded,
    frame,
    judged_documents,
    pair_documents,
    said,
    write_chat_model,
)  # fmt: skip

PAIRED = ("dpo", "orpo", "simpo", "reward")
ALL = (*PAIRED, "kto")


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    return load_model(write_chat_model(tmp_path_factory.mktemp("speaker"))).eval()


def model_for(name, speaker):
    return attach(load_like(speaker), HeadConfig(task="reward"), seed=3).eval() if name == "reward" else speaker


def load_like(speaker):
    twin = speaker.twin()
    twin.load_state_dict(speaker.state_dict())
    return twin


def with_numbers(one, random):
    made_up = np.where(one.targets == NO_LABEL, one.values, random.normal(-5, 1, len(one.ids)))
    return replace(one, values=made_up.astype(np.float32))


def samples_of(name, noise=True):
    """Encoded samples, with a reference model's numbers made up."""
    objective = built(name)
    found = encoded(objective, judged_documents() if name == "kto" else pair_documents())
    if noise and getattr(objective, "reference", False):
        random = np.random.default_rng(4)
        found = [with_numbers(one, random) for one in found]
    return objective, found


# ---- the formulas


def test_dpo_by_hand():
    """Margins 0 and ln 3 / beta: the odds of the right order are 1 and 3, so the losses are ln 2 and ln 4/3."""
    assert dpo_losses(t(2, math.log(3) / 0.2), t(2, 0), beta=0.2).tolist() == pytest.approx([math.log(2), math.log(4 / 3)])
    smoothed = dpo_losses(t(math.log(3)), t(0), beta=1.0, smoothing=0.25)  # a quarter of ln 4, three of ln 4/3
    assert smoothed.tolist() == pytest.approx([0.75 * math.log(4 / 3) + 0.25 * math.log(4)])


def test_ipo_and_hinge_by_hand():
    assert ipo_losses(t(5.0), t(0.0), beta=0.1).tolist() == [0.0]  # the aim: 1 / (2 * 0.1) = 5
    assert ipo_losses(t(1.0), t(3.0), beta=0.5).tolist() == pytest.approx([9.0])
    assert hinge_losses(t(20.0, 1.0, -5.0), t(0.0, 1.0, 5.0), beta=0.1).tolist() == pytest.approx([0.0, 1.0, 2.0])


def test_orpo_by_hand():
    """Probabilities 3/4 and 1/4 have odds 3 and 1/3: a ratio of 9, whose loss is ln 10/9."""
    assert odds_losses(t(0.75).log(), t(0.25).log()).tolist() == pytest.approx([math.log(10 / 9)])


def test_the_logarithm_of_what_is_left_is_exact_at_both_ends_with_its_gradient():
    x = t(-50, -1, -0.5, -1e-5).requires_grad_()
    log_not(x).sum().backward()
    wanted = [-math.exp(-50), math.log(1 - math.exp(-1)), math.log(1 - math.exp(-0.5)), math.log(-math.expm1(-1e-5))]
    assert log_not(x).tolist() == pytest.approx(wanted, rel=1e-12)
    assert x.grad.tolist() == pytest.approx([-1 / math.expm1(-value) for value in x.tolist()], rel=1e-9)
    sure = t(0.0).requires_grad_()
    log_not(sure).sum().backward()
    assert bool(log_not(sure).isfinite().all()) and bool(sure.grad.isfinite().all())


def test_simpo_by_hand():
    """2 (-1 - -2) - 0.9 = 1.1."""
    assert simpo_losses(t(-1.0), t(-2.0), beta=2.0, margin=0.9).tolist() == pytest.approx([math.log(1 + math.exp(-1.1))])


def test_kto_by_hand():
    """sigmoid(ln 3) = 3/4: a good answer that far above the point of reference loses 1/4, a bad one 3/4."""
    far = math.log(3) / 0.1
    found = kto_losses(t(far + 2, far + 2, 2), torch.tensor([True, False, True]), t(2.0)[0], beta=0.1, good=2.0, bad=1.0)
    assert found.tolist() == pytest.approx([2 * 0.25, 0.75, 2 * 0.5])


def test_reward_by_hand():
    """Odds 3 with a margin of ln 3 are even again."""
    assert reward_losses(t(math.log(3)), t(0.0)).tolist() == pytest.approx([math.log(4 / 3)])
    found = reward_losses(t(math.log(3), 2.0), t(0.0, -1.0), t(math.log(3), 3.0), centre=0.5)
    assert found.tolist() == pytest.approx([math.log(2) + 0.5 * math.log(3) ** 2, math.log(2) + 0.5])


def test_the_estimate_of_divergence_is_that_of_its_definition(speaker):
    objective, parts = samples_of("dpo")
    with torch.no_grad():
        found = spoken(speaker, pack(objective, list(enumerate(parts)), 64))
    batch = pack(objective, [(0, parts[0])], 64)
    hidden = speaker.hidden(batch.ids, documents_BT=batch.documents)
    logp = speaker.token_logprobs(hidden.flatten(0, 1), batch.targets.flatten())
    asked = (batch.targets.flatten() != NO_LABEL) & (batch.documents.flatten() == 0)
    apart = (logp - batch.values.flatten())[asked].double()
    place = [number for row in pack(objective, list(enumerate(parts)), 64).origin for number in row[:, 0].tolist()].index(0)
    assert float(found.divergence[place]) == pytest.approx(float((apart.exp() - 1 - apart).sum().detach()), rel=1e-4)


# ---- batches


@pytest.mark.parametrize("name", ALL)
def test_a_loss_is_a_mean_over_samples_however_they_are_packed(name, speaker):
    objective, parts = samples_of(name)
    model, results = model_for(name, speaker), []
    splits = [[[0, 1, 2, 3, 4]]] if name == "kto" else [[[0, 1, 2, 3, 4]], [[3, 0], [4], [1, 2]]]
    for micro in [*splits, *([[[4, 2, 0, 1, 3]]] if name == "kto" else [])]:
        for row_tokens in (16, 300):
            model.zero_grad()
            batches = [pack(objective, [(at, parts[at]) for at in these], row_tokens) for these in micro]
            assert [batch.target_count for batch in batches] == [len(these) for these in micro]
            total = sum(batch.target_count for batch in batches)
            losses = [objective.loss_sum(model, batch) / total for batch in batches]
            for loss in losses:
                loss.backward()
            grads = {key: part.grad.clone() for key, part in model.named_parameters() if part.grad is not None}
            results.append((float(sum(loss.detach() for loss in losses)), grads))
    for loss, grads in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-5)
        for key, grad in grads.items():
            torch.testing.assert_close(grad, results[0][1][key], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_figures_are_sums_over_samples_and_the_loss_of_a_text_alone_can_be_had(name, speaker):
    objective, parts = samples_of(name)
    model, batch = model_for(name, speaker), pack(objective, list(enumerate(parts)), 300)
    with torch.no_grad():
        objective.loss_sum(model, batch)
        figures = objective.figures()
        assert 0 <= figures["accuracy"] <= batch.target_count == 5
        if name in PAIRED:
            assert figures["margin"] == pytest.approx(figures["chosen_reward"] - figures["rejected_reward"], abs=1e-4)
        first = {key: getattr(batch, key)[:, batch.documents[0] == 0] for key in ("ids", "targets", "values")}
        alone = replace(batch, **first, documents=None)
        assert alone.target_count == len(alone.ids) and math.isfinite(float(objective.loss_sum(model, alone)))


def test_answers_and_the_end_of_their_turn_are_asked_for_and_nothing_else():
    objective, tokenizer = built("dpo"), chat_tokenizer()
    (one,) = encoded(objective, pair_documents(ASKED[:1]))
    for number, text in enumerate(("hello you", "no")):
        asked = one.targets[(one.documents == number) & (one.targets != NO_LABEL)]
        assert tokenizer.decode(asked.tolist()) == f"{text}<|im_end|>"
    assert one.ids[one.documents == 0].tolist() != one.ids[one.documents == 1].tolist()


def test_a_completion_may_have_several_turns_and_tools():
    call = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    chosen = [
        {"role": "assistant", "content": "", "tool_calls": call},
        {"role": "tool", "content": "3"},
        *said("assistant", "Three."),
    ]
    tools = [{"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {}}}]
    one = document(prompt=said("user", "1 + 2"), chosen=chosen, rejected=said("assistant", "Four."), tools=tools)
    (found,) = built("dpo").encode(one, frame(1000), "raise")
    asked = found.targets[(found.documents == 0) & (found.targets != NO_LABEL)]
    text = chat_tokenizer().decode(asked.tolist())
    assert "tool_call" in text and "Three." in text and "tool_response" not in text


@pytest.mark.parametrize("name", PAIRED)
def test_equal_answers_and_long_ones_are_counted(name):
    objective = built(name)
    documents = pair_documents([ASKED[0], ("x", "same", "same"), ("y", "short", "long " * 40)])
    with pytest.raises(Useless):
        objective.encode(documents[1], frame(), "raise")
    with pytest.raises(TooLong):
        objective.encode(documents[2], frame(60), "raise")
    with pytest.raises(BadInput, match=r"samples.jsonl:3.*tokens"):
        read(documents, 3, objective, frame(60), "raise")
    dropped, cut = (read(documents, 3, objective, frame(60), policy) for policy in ("drop", "truncate"))
    assert dropped.ledger["equal_answers"] == cut.ledger["equal_answers"] == 1
    assert (dropped.ledger["dropped"], dropped.ledger["parts"]) == (2, 1)
    assert (cut.ledger["dropped"], cut.ledger["truncated"], cut.ledger["parts"]) == (1, 1, 2)
    assert max(np.bincount(cut.encoded[1].documents)) == 60


def test_what_has_no_answer_or_no_label_is_refused_by_name():
    nobody = document(prompt=said("user", "x"), chosen=said("user", "y"), rejected=said("assistant", "z"))
    with pytest.raises(BadInput, match=r"samples.jsonl:1"):
        built("dpo").encode(nobody, frame(), "raise")
    strange = document(prompt=said("user", "x"), completion=said("assistant", "y"), label="maybe")
    with pytest.raises(BadInput, match=r"samples.jsonl:1.*maybe"):
        built("kto").encode(strange, frame(), "raise")
    odd = pair_documents(ASKED[:1], margin="much")[0]
    with pytest.raises(BadInput, match="much"):
        built("reward").encode(odd, frame(), "raise")


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="sigmoid"):
        OBJECTIVES["dpo"].Config(loss="hinge", label_smoothing=0.1)


# ---- KTO's point of reference


def test_behind_a_judged_answer_stands_its_prompt_with_a_strangers_answer():
    objective, tokenizer = built("kto"), chat_tokenizer()
    same_prompt = judged_documents([ASKED[0], ASKED[0], ASKED[1]])
    parts = encoded(objective, same_prompt)
    texts = [[tokenizer.decode(one.ids[one.documents == number].tolist()) for number in (0, 1)] for one in parts]
    assert [one.values[0] for one in parts] == [0.0, 1.0, 0.0]
    for own, strange in texts[:2]:  # the neighbour asks the same, so the answer comes from the third
        assert "say hi" in own and "say hi" in strange and "it is five" in strange
    assert "two and two" in texts[2][1] and "hello you" in texts[2][1]
    for one in parts:
        asked = one.targets[(one.documents == 1) & (one.targets != NO_LABEL)].tolist()
        ids = one.ids[one.documents == 1].tolist()
        first = int((one.targets[one.documents == 1] != NO_LABEL).argmax())
        assert ids[first + 1 : first + len(asked)] == asked[:-1] and asked[-1] == tokenizer.vocab["<|im_end|>"]


def test_the_point_of_reference_is_the_strangers_mean_log_ratio_and_never_negative(speaker):
    objective, parts = samples_of("kto")
    batch = pack(objective, list(enumerate(parts)), 40)
    with torch.no_grad():
        all_texts = spoken(speaker, batch)
        wanted = float(all_texts.ratio[1::2].mean().clamp(min=0))
        objective.loss_sum(speaker, batch)
    assert objective.figures()["kl"] / 5 == pytest.approx(wanted, rel=1e-4)
    good = torch.tensor([parts[number].values[0] > 0 for row in batch.origin for number in row[::2, 0].tolist()])
    by_hand = kto_losses(all_texts.ratio[::2], good, torch.tensor(wanted), 0.1)
    with torch.no_grad():
        assert float(objective.loss_sum(speaker, batch)) == pytest.approx(float(by_hand.sum()), rel=1e-4)


def test_the_strangers_answers_teach_nothing_themselves(speaker):
    """Their gradient is none: nudging only what they consist of changes the loss, but no gradient flows along it."""
    objective, parts = samples_of("kto")
    objective.config = objective.config.model_copy(update={"good": 0.0, "bad": 0.0})
    speaker.zero_grad()
    objective.loss_sum(speaker, pack(objective, list(enumerate(parts)), 40)).backward()
    assert all(part.grad is None or float(part.grad.abs().max()) == 0 for part in speaker.parameters())


def test_too_many_of_one_kind_are_told(monkeypatch):
    told = []
    monkeypatch.setattr(log, "warn", told.append)
    objective = built("kto")
    encoded(
        objective, [document(n, prompt=said("user", f"q{n}"), completion=said("assistant", "a"), label="true") for n in range(4)]
    )
    encoded(objective, [document(n, prompt=said("user", f"q{n}"), completion=said("assistant", "a"), label=str(n > 0).lower())
                        for n in range(5)])  # fmt: skip
    assert len(told) == 2 and "nothing tells" in told[0] and "--objective.bad" in told[1]


# ---- the reward model's samples


def test_a_reward_looks_at_the_last_token_of_all_that_the_template_writes():
    objective, tokenizer = built("reward"), chat_tokenizer()
    (one,) = objective.encode(pair_documents(ASKED[:1], margin="0.75")[0], frame(), "raise")
    at = np.flatnonzero(one.targets != NO_LABEL)
    assert one.targets[at].tolist() == [1, 0] and one.values[at].tolist() == [0.75, 0.75]
    for number, text in enumerate(("hello you", "no")):
        ids = one.ids[one.documents == number].tolist()
        assert tokenizer.decode(ids) == (f"<|im_start|>user\nsay hi<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n")
        assert ids == conversation_ids(tokenizer, [*said("user", "say hi"), *said("assistant", text)])
    assert json.loads(pair_documents(ASKED[:1])[0].sample["prompt"])[0]["content"] == "say hi"


def test_a_prompt_that_leaves_no_room_for_its_answer_is_counted():
    documents = pair_documents([ASKED[0], ("long " * 40, "yes", "no")])
    found = read(documents, 2, built("dpo"), frame(60), "truncate")
    assert (found.ledger["prompt_too_long"], found.ledger["dropped"], found.ledger["parts"]) == (1, 1, 1)


def test_a_stranger_that_does_not_fit_is_passed_over():
    objective = built("kto")
    asked = [("short", "y", "a long answer, " * 5), ("a question, " * 5, "y", "n"), ("b", "c", "d")]
    parts = encoded(objective, judged_documents(asked), most=110)
    assert max(np.bincount(one.documents).max() for one in parts) <= 110
    texts = [chat_tokenizer().decode(one.ids[one.documents == 1].tolist()) for one in parts]
    assert "d<|im_end|>" in texts[1] and "d<|im_end|>" in texts[0] and "y<|im_end|>" in texts[2]
