"""At toy size, on made-up preferences that are not about length: every objective learns what it is for, on pairs held out."""

import numpy as np
import pytest
import torch
from tests.objectives.judged import built, chat_tokenizer, document, encoded, pair_documents, said, write_chat_model

from danlu.engine.heads import HeadedModel
from danlu.evaluate import preferences
from danlu.models.heads import HeadConfig, attach
from danlu.models.weights import load_model
from danlu.train.launch import World
from danlu.train.reference import add_reference
from danlu.train.samples import SampleBatches, Samples, in_order

TRAINED, HELD = 48, 24


def asked(count, seed=1):
    """Better answers are made of vowels; lengths say nothing."""
    random = np.random.default_rng(seed)

    def word(letters):
        return "".join(random.choice(list(letters), int(random.integers(3, 12))))

    return [(word("xyz"), word("aeiou"), word("bcdfg")) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("toy"), initializer_range=0.1)


def learned(name, model, place, steps, rate, **settings):
    """Train on pairs (KTO: on their answers alone), and say what is found on held-out ones before and after."""
    objective, documents = built(name, **settings), pair_documents(asked(TRAINED + HELD))
    if name == "kto":
        documents = [document(number, prompt=said("user", prompt), completion=said("assistant", good if number % 2 else bad),
                              label=str(bool(number % 2)).lower())
                     for number, (prompt, good, bad) in enumerate(asked(TRAINED + HELD))]  # fmt: skip
    found = {
        "train": Samples(encoded(objective, documents[:TRAINED])),
        "validation": Samples(encoded(objective, documents[TRAINED:])),
    }
    if objective.reference:
        add_reference(found, objective, model, place, {}, World(), row_tokens=64, micro_tokens=2000)
    batches = SampleBatches(found["train"], objective, 16, 64, 1000, seed=2)
    before = judged(objective, model, found["validation"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        micro = batches.step(step)
        pairs = sum(batch.target_count for batch in micro)
        assert pairs == 16
        for batch in micro:
            (objective.loss_sum(model, batch) / pairs).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return before, judged(objective, model, found["validation"])


@torch.no_grad()
def judged(objective, model, held):
    (batch,) = in_order(held, objective, HELD, 64)
    loss = float(objective.loss_sum(model, batch)) / HELD
    return {"loss": loss, **{name: value / HELD for name, value in objective.figures().items()}}


@pytest.mark.parametrize(("name", "settings"), [
    ("dpo", {}), ("dpo", {"loss": "ipo"}), ("dpo", {"loss": "hinge"}), ("dpo", {"label_smoothing": 0.1, "sft": 0.1}),
    ("orpo", {}), ("simpo", {}), ("kto", {}),
])  # fmt: skip
def test_held_out_pairs_are_told_apart_by_a_growing_margin(name, settings, folder, tmp_path):
    before, after = learned(name, load_model(folder), tmp_path, steps=24, rate=3e-3, **settings)
    assert after["loss"] < before["loss"] and after["margin"] > before["margin"]
    assert after["accuracy"] >= 0.9
    if name in ("dpo", "kto"):  # measured from the model's own beginning, nothing is told apart at first
        assert before["margin"] == pytest.approx(0, abs=1e-4) and before["accuracy"] < 0.9
    if name == "dpo":
        assert before["kl"] == pytest.approx(0, abs=1e-6) and after["kl"] > 0.001


def test_a_reward_model_stands_above_the_length_baselines_on_pairs_held_out(folder, tmp_path):
    model = attach(load_model(folder), HeadConfig(task="reward"), seed=3)
    before, after = learned("reward", model, tmp_path, steps=40, rate=3e-3)
    live = HeadedModel(model.eval(), chat_tokenizer(), tmp_path)
    found = preferences.judge(preferences.score(live, pair_documents(asked(TRAINED + HELD))[TRAINED:]))
    assert found["accuracy"].value == pytest.approx(after["accuracy"]) and after["accuracy"] >= 0.9 > before["accuracy"]
    assert found["above_length"].low > 0 and found["log_loss"].value < np.log(2)
