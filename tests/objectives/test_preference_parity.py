"""Preference objectives against TRL on the same tensors: its trainers' losses and gradients, or its loss functions, within 1e-5.

Whole batches with gradients of every weight: DPOTrainer (sigmoid, ipo, hinge), KTOTrainer, RewardTrainer. ORPOTrainer's and
CPOTrainer's (SimPO) losses from transformers' logits, with gradients; conservative DPO has no loss of its own in TRL, but its
`aot_unpaired` is the same for a single pair. TRL asks for the line end behind an end of turn too; here it is given our targets.
"""

import types

import numpy as np
import pytest
import torch

from danlu.core.labels import NO_LABEL
from danlu.engine.heads import save_headed
from danlu.models.heads import HeadConfig, attach
from danlu.models.weights import load_model
from danlu.train.launch import World
from danlu.train.reference import add_reference
from danlu.train.samples import Samples, pack
from tests.objectives.judged import (
    built,
    chat_tokenizer,
    encoded,
    judged_documents,
    pair_documents,
    said,
    write_chat_model,
)

pytestmark = pytest.mark.filterwarnings("ignore")
TURN = {"prompt": said("user", "x"), "chosen": said("assistant", "y"), "rejected": said("assistant", "z")}
DUMMY = {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The reference model, and one that has moved away from it."""
    place = tmp_path_factory.mktemp("parity")
    return write_chat_model(place / "before"), write_chat_model(place / "now", noise=0.05)


def theirs(folder, kind="AutoModelForCausalLM", **more):
    import transformers

    return getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32, **more)


def samples_for(objective, documents, folder, tmp_path):
    """Encoded, with the reference model's numbers where the objective wants them."""
    found = Samples(encoded(objective, documents), [f"line {number}" for number in range(len(documents))])
    if objective.reference:
        add_reference({"train": found}, objective, load_model(folder), tmp_path, {}, World(), row_tokens=64, micro_tokens=150)
    return found.encoded


def texts(parts):
    """Every text of the samples alone: all its tokens, and which of them it is asked for."""
    for one in parts:
        for number in range(int(one.documents.max()) + 1):
            mine = one.documents == number
            last = [one.targets[mine][-1]] if one.targets[mine][-1] != NO_LABEL else []
            yield np.array([*one.ids[mine], *last]), np.array([False, *(one.targets[mine] != NO_LABEL)])[: mine.sum() + len(last)]


def padded(rows, prefix=""):
    width = max(len(ids) for ids, _ in rows)
    found = {name: torch.zeros(len(rows), width, dtype=torch.long) for name in ("input_ids", "attention_mask", "completion_mask")}
    for row, (ids, asked) in enumerate(rows):
        for name, part in (("input_ids", ids), ("attention_mask", np.ones_like(ids)), ("completion_mask", asked)):
            found[name][row, : len(ids)] = torch.from_numpy(np.asarray(part, np.int64))
    return {prefix + name: part for name, part in found.items()}


def assert_same(ours, loss, other, their_loss):
    """Losses, and gradients of all weights by their names on disk."""
    loss.backward()
    their_loss.backward()
    assert float(loss.detach()) == pytest.approx(float(their_loss.detach()), rel=1e-5, abs=1e-5)
    grads = {name: part.grad for name, part in other.named_parameters() if part.grad is not None}
    compared = 0
    for name, part in ours.named_parameters():
        for there in ours.pieces(name):
            if there in grads:
                torch.testing.assert_close(part.grad, grads[there], rtol=1e-4, atol=1e-5)
                compared += 1
    assert compared == len(grads) > 10


@pytest.fixture(scope="module")
def dpo_trainer(folders, tmp_path_factory):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    args = DPOConfig(output_dir=str(tmp_path_factory.mktemp("dpo")), **DUMMY)
    return DPOTrainer(model=theirs(folders[1]), ref_model=theirs(folders[0]), args=args, train_dataset=Dataset.from_list([TURN]),
                      processing_class=theirs_tokenizer(folders[0]))  # fmt: skip


def theirs_tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("settings", [{"loss": "sigmoid"}, {"loss": "ipo", "beta": 0.3}, {"loss": "hinge", "beta": 0.05}])
def test_dpo_and_its_gradient_equal_the_trainers(settings, folders, dpo_trainer, tmp_path):
    objective, ours = built("dpo", **settings), load_model(folders[1])
    parts = samples_for(objective, pair_documents(), folders[0], tmp_path)
    batch = pack(objective, list(enumerate(parts)), 64)
    rows = list(texts(parts))
    dpo_trainer.loss_types, dpo_trainer.loss_weights, dpo_trainer.beta = [settings["loss"]], [1.0], objective.config.beta
    dpo_trainer.model.zero_grad()
    their_loss = dpo_trainer.compute_loss(dpo_trainer.model, padded([*rows[::2], *rows[1::2]]))
    assert_same(ours, objective.loss_sum(ours, batch) / batch.target_count, dpo_trainer.model, their_loss)


def test_conservative_dpo_of_one_pair_equals_the_trainers_sorted_loss(folders, dpo_trainer, tmp_path):
    objective, ours = built("dpo", label_smoothing=0.2), load_model(folders[1])
    parts = samples_for(objective, pair_documents()[2:3], folders[0], tmp_path)
    dpo_trainer.loss_types, dpo_trainer.loss_weights, dpo_trainer.beta = ["aot_unpaired"], [1.0], 0.1
    dpo_trainer.label_smoothing = 0.2
    dpo_trainer.model.zero_grad()
    their_loss = dpo_trainer.compute_loss(dpo_trainer.model, padded(list(texts(parts))))
    assert_same(ours, objective.loss_sum(ours, pack(objective, [(0, parts[0])], 64)), dpo_trainer.model, their_loss)


@pytest.mark.parametrize(("settings", "away"), [({}, 1), ({"beta": 0.5, "good": 1.5, "bad": 0.5}, 0)])
def test_kto_and_its_gradient_equal_the_trainers(settings, away, folders, tmp_path):
    """Once with the point of reference at zero, once above: the two folders change their parts."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    reference, now = folders[1 - away], folders[away]
    objective, ours = built("kto", **settings), load_model(now)
    parts = samples_for(objective, judged_documents(), reference, tmp_path)
    batch = pack(objective, list(enumerate(parts)), 64)
    config = objective.config
    args = KTOConfig(output_dir=str(tmp_path / "kto"), beta=config.beta, desirable_weight=config.good,
                     undesirable_weight=config.bad, per_device_train_batch_size=5, **DUMMY)  # fmt: skip
    turns = [{"prompt": said("user", "x"), "completion": said("assistant", "y"), "label": bool(label)} for label in (0, 1)]
    trainer = KTOTrainer(model=theirs(now), ref_model=theirs(reference), args=args, train_dataset=Dataset.from_list(turns),
                         processing_class=theirs_tokenizer(now))  # fmt: skip
    rows = list(texts(parts))
    inputs = {**padded(rows[::2]), **padded(rows[1::2], "KL_"), "label": torch.tensor([one.values[0] > 0 for one in parts])}
    their_loss = trainer.compute_loss(trainer.model, inputs)
    with torch.no_grad():
        objective.loss_sum(ours, batch)
    told = trainer._metrics["train" if trainer.model.training else "eval"]["kl"][-1]
    assert (told > 0) == (away == 0) and objective.figures()["kl"] / 5 == pytest.approx(told, rel=1e-4)
    assert_same(ours, objective.loss_sum(ours, batch) / batch.target_count, trainer.model, their_loss)


@pytest.mark.parametrize("margin", ["", "0.6"])
def test_reward_and_its_gradient_equal_the_trainers(margin, folders, tmp_path):
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    objective = built("reward", centre=0.05)
    ours = attach(load_model(folders[1]), HeadConfig(task="reward"), seed=3)
    save_headed(ours, chat_tokenizer(), tmp_path / "reward")
    other = theirs(tmp_path / "reward", "AutoModelForSequenceClassification")
    parts = encoded(objective, pair_documents(margin=margin))
    batch = pack(objective, list(enumerate(parts)), 64)
    args = RewardConfig(output_dir=str(tmp_path / "out"), center_rewards_coefficient=0.05, **DUMMY)
    trainer = RewardTrainer(model=other, args=args, train_dataset=Dataset.from_list([TURN]),
                            processing_class=theirs_tokenizer(tmp_path / "reward"))  # fmt: skip
    rows = [(ids := one.ids[one.documents == number], np.ones_like(ids)) for one in parts for number in (0, 1)]
    inputs = padded([*rows[::2], *rows[1::2]])
    del inputs["completion_mask"]
    inputs |= {"margin": torch.full((5,), float(margin))} if margin else {}
    their_loss = trainer.compute_loss(trainer.model, inputs)
    assert_same(ours, objective.loss_sum(ours, batch) / batch.target_count, trainer.model, their_loss)


@pytest.mark.parametrize(("name", "settings"), [("orpo", {"weight": 0.4}), ("simpo", {"beta": 2.5, "margin": 0.8}),
                                                ("simpo", {"sft": 0.7})])  # fmt: skip
def test_orpo_and_simpo_equal_the_trainers_functions_on_transformers_logits(name, settings, folders, tmp_path):
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    objective, ours, other = built(name, **settings), load_model(folders[1]), theirs(folders[1])
    parts = encoded(objective, pair_documents())
    batch, inputs = pack(objective, list(enumerate(parts)), 64), padded(list(texts(parts)))
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, NO_LABEL)
    logits = other(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    mean = ORPOTrainer.get_batch_logps(logits, labels, average_log_prob=True)
    here = types.SimpleNamespace(device="cpu")
    config = objective.config
    if name == "orpo":
        stub = types.SimpleNamespace(beta=config.weight, accelerator=here)
        losses = -ORPOTrainer.odds_ratio_loss(stub, mean[::2], mean[1::2])[0] - mean[::2]
    else:
        stub = types.SimpleNamespace(alpha=0.0, loss_type="simpo", simpo_gamma=config.margin, beta=config.beta, accelerator=here,
                                     label_smoothing=0.0)  # fmt: skip
        losses = CPOTrainer.cpo_loss(stub, mean[::2], mean[1::2])[0] - config.sft * mean[::2]
    assert_same(ours, objective.loss_sum(ours, batch) / batch.target_count, other, losses.mean())


def test_a_saved_reward_model_scores_in_transformers_as_here(folders, tmp_path):
    """Through its own apply_chat_template, in rows that it fills itself."""
    from danlu.engine.heads import HeadedModel
    from danlu.models.heads import load_headed

    ours = attach(load_model(folders[1]), HeadConfig(task="reward"), seed=3).eval()
    save_headed(ours, chat_tokenizer(), tmp_path)
    live = HeadedModel(load_headed(tmp_path), chat_tokenizer(), tmp_path)
    asked = [[*said("user", question), *said("assistant", answer)] for question, answer in (("hi", "hello"), ("a", "b " * 20))]
    here = live.score(asked)
    other, tokenizer = theirs(tmp_path, "AutoModelForSequenceClassification").eval(), theirs_tokenizer(tmp_path)
    assert other.config.num_labels == 1 and other.config.pad_token_id == tokenizer.pad_token_id
    inputs = tokenizer.apply_chat_template(asked, return_tensors="pt", padding=True, return_dict=True)
    assert (inputs["input_ids"] == tokenizer.pad_token_id).any()
    with torch.no_grad():
        there = other(**inputs).logits[:, 0].tolist()
    assert here == pytest.approx(there, rel=1e-4, abs=1e-5)
    other.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    back = HeadedModel(load_headed(tmp_path / "theirs"), chat_tokenizer(), tmp_path)
    assert back.score(asked) == pytest.approx(here, rel=1e-5)
    assert live.score(asked[1:])[0] == pytest.approx(here[1], rel=1e-5)
