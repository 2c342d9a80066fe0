"""Continued training: it starts at the weights given, with the changes asked for, and refuses what does not go together."""

import json
import shutil

import pytest
import torch
from tests.stages.small_pretrain import SMALL, pace, write_dataset, write_tokenizer
from tests.tiny import tiny_model, tiny_tokenizer, write_tiny

import danlu
from danlu.core.artifact import open_artifact, publish
from danlu.core.errors import BadSettings, NotAnArtifact, TokenizerMismatch
from danlu.core.settings import Settings
from danlu.models.weights import load_model
from danlu.stages.pretrain import Pretrain
from danlu.stages.start import GENTLER

RUN = {key: SMALL[key] for key in ("batch_rows", "micro_rows", "dtype")}
LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    write_dataset(folder / "data")
    write_tokenizer(folder / "tokenizer")
    tiny_model(folder / "base", max_position_embeddings=24)
    return folder


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    monkeypatch.setattr("danlu.train.speed.measure", lambda threads=None, dtype=None: pace())


def go_on(folder, out, **changes):
    return danlu.pretrain(**{**RUN, "dataset": folder / "data", "init": folder / "base", "out": out, "steps": 3, **changes})


def weights(path):
    return dict(load_model(path).named_parameters())


def test_without_a_rate_the_weights_stay_what_they_were(folder, tmp_path):
    still = {"name": "sgd", "learning_rate": 1e-30, "weight_decay": 0.0}
    made = go_on(folder, tmp_path / "same", steps=1, optimiser=still)
    before, after = weights(folder / "base"), weights(made.path)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-12)


def test_family_sizes_tokenizer_and_context_come_from_the_folder(folder, tmp_path):
    made = go_on(folder, tmp_path / "on")
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder / "base", made.path))
    assert before == after
    assert danlu.load(made.path).tokenizer.id == danlu.load(folder / "base").tokenizer.id
    assert made.lineage.ledger["tokens"]["stored"] > 0
    plan = json.loads((tmp_path / "on.run" / "plan.json").read_text())["plan"]
    assert plan["row_tokens"] == 24
    moved = [name for name, tensor in weights(made.path).items() if not torch.equal(tensor, weights(folder / "base")[name])]
    assert moved, "and yet it learns"


def test_lineage_and_card_name_where_it_began(folder, tmp_path):
    made = go_on(folder, tmp_path / "on")
    inputs = {one.role: one.id for one in made.lineage.inputs}
    assert inputs["init"] == open_artifact(folder / "base").id and inputs["dataset"] == open_artifact(folder / "data").id
    assert made.lineage.licences == ("CC0-1.0",)
    assert "trained further from `base`" in (made.path / "README.md").read_text()


def test_a_folder_of_another_tool_will_do(folder, tmp_path):
    write_tiny(tmp_path / "foreign", "llama", max_position_embeddings=24)
    made = go_on(folder, tmp_path / "on", init=tmp_path / "foreign")
    assert json.loads((made.path / "config.json").read_text())["model_type"] == "llama"
    assert next(one.id for one in made.lineage.inputs if one.role == "init").startswith("sha256:")


def test_position_interpolation_is_one_setting(folder, tmp_path):
    """The context grows with the factor, rows with the context, and the weights begin where they were."""
    made = go_on(folder, tmp_path / "long", model=LINEAR)
    config = load_model(made.path).config
    assert config.rope_scaling.factor == 2.0 and config.context == 48
    assert json.loads((tmp_path / "long.run" / "plan.json").read_text())["plan"]["row_tokens"] == 48


@pytest.mark.parametrize(
    ("asked", "context", "original"),
    [
        ({"rope_type": "yarn", "factor": 4.0}, 96, 24),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 20}, 96, 20),
        ({"rope_type": "dynamic", "factor": 3.0}, 72, None),
    ],
)
def test_a_scaling_means_the_length_that_the_model_was_trained_for(folder, asked, context, original):
    from danlu.stages.start import model_settings

    config = model_settings(folder / "base", danlu.models.MODELS["qwen3"].Config(rope_scaling=asked))
    assert config.context == context and config.rope_scaling.original_max_position_embeddings == original


def test_a_second_stretch_counts_from_the_first_length(folder, tmp_path):
    from danlu.stages.start import model_settings

    qwen3 = danlu.models.MODELS["qwen3"].Config
    for number, first in enumerate(({"rope_type": "linear", "factor": 2.0}, {"rope_type": "yarn", "factor": 2.0,
                                    "original_max_position_embeddings": 24})):  # fmt: skip
        tiny_model(tmp_path / str(number), max_position_embeddings=48, rope_scaling=first)
        config = model_settings(tmp_path / str(number), qwen3(rope_scaling={"rope_type": "yarn", "factor": 8.0}))
        assert config.context == 192 and config.rope_scaling.original_max_position_embeddings == 24


def test_rates_are_gentler_unless_they_are_given(folder, tmp_path):
    go_on(folder, tmp_path / "on", steps=1)
    sizes = {"row_tokens": 24, "model": {"hidden_size": 24, "num_hidden_layers": 2}}
    new = {"dataset": folder / "data", "tokenizer": folder / "tokenizer", "out": tmp_path / "new", "steps": 1, **sizes}
    danlu.pretrain(**{**RUN, **new})
    rates = [json.loads((tmp_path / f"{name}.run" / "plan.json").read_text())["plan"]["optimiser"] for name in ("on", "new")]
    assert rates[0]["learning_rate"] == pytest.approx(GENTLER * rates[1]["learning_rate"])
    given = {"name": "muon", "learning_rate": 0.5}
    go_on(folder, tmp_path / "given", steps=1, optimiser=given)
    assert json.loads((tmp_path / "given.run" / "plan.json").read_text())["plan"]["optimiser"]["learning_rate"] == 0.5


def test_another_tokenizer_is_refused(folder, tmp_path):
    with publish(tmp_path / "other", kind="tokenizer", stage="tokenizer", settings=Settings()) as draft:
        tiny_tokenizer("<|more|>").save(draft.path)
    with pytest.raises(TokenizerMismatch, match=r"260 tokens.*259 tokens"):
        go_on(folder, tmp_path / "on", tokenizer=tmp_path / "other")
    assert go_on(folder, tmp_path / "on", tokenizer=folder / "tokenizer").path.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": {"name": "llama"}}, "is a qwen3"),
        ({"model": {"hidden_size": 48}}, r"shapes would be others under --model\.hidden_size"),
        ({"model": {"tie_word_embeddings": False}}, "lm_head"),
        ({"model": {"head_dim": 9}}, "even head_dim"),
        ({"vocab_size": 300}, "leave --vocab_size out"),
        ({"row_tokens": 25}, "context of 24"),
        ({"objective": {"name": "masked"}}, "trains a MaskedLM"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_begins(folder, tmp_path, changes, named):
    with pytest.raises(BadSettings, match=named):
        go_on(folder, tmp_path / "on", **changes)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_model_is_named(folder, tmp_path):
    with pytest.raises(NotAnArtifact, match=r"config\.json"):
        go_on(folder, tmp_path / "on", init=folder / "data")


def test_an_interrupted_run_ends_with_the_same_weights(folder, tmp_path, monkeypatch):
    """It goes on from its checkpoint, not from --init again; a copy of the folder elsewhere is the same start."""
    from danlu.train.watchers.save import Save

    changes = {"steps": 6, "model": LINEAR, "watch": {"save": {"name": "save", "every": 2}}}
    whole = go_on(folder, tmp_path / "whole", **changes)
    keep = Save.after_step

    def cut(self, run, facts):
        if facts.step == 5:
            raise KeyboardInterrupt
        keep(self, run, facts)

    with monkeypatch.context() as patch:
        patch.setattr(Save, "after_step", cut)
        with pytest.raises(KeyboardInterrupt):
            go_on(folder, tmp_path / "cut", **changes)
    assert not (tmp_path / "cut").exists()
    shutil.copytree(folder / "base", tmp_path / "moved")
    again = go_on(folder, tmp_path / "cut", init=tmp_path / "moved", **changes)
    for name, tensor in weights(whole.path).items():
        assert torch.equal(weights(again.path)[name], tensor), name


def test_a_run_does_not_go_on_with_another_beginning(folder, tmp_path, monkeypatch):
    from danlu.core.errors import WorkFolderMismatch
    from danlu.train.watchers.save import Save

    tiny_model(tmp_path / "other", seed=1, max_position_embeddings=24)
    with monkeypatch.context() as patch:
        patch.setattr(Save, "after_step", lambda self, run, facts: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go_on(folder, tmp_path / "cut")
    with pytest.raises(WorkFolderMismatch, match="init"):
        go_on(folder, tmp_path / "cut", init=tmp_path / "other")


def test_the_family_is_the_folders_unless_one_is_named(tmp_path):
    write_tiny(tmp_path / "foreign", "gemma2")
    assert Pretrain(dataset="d", out="o").model.name == "qwen3"
    assert Pretrain(dataset="d", out="o", init=tmp_path / "foreign", model={"sliding_window": 7}).model.sliding_window == 7
    assert Pretrain(dataset="d", out="o", init=tmp_path / "foreign", model={"name": "llama"}).model.name == "llama"


def test_old_text_is_shown_again_and_counted(folder, tmp_path):
    write_dataset(tmp_path / "new", documents=23)
    made = danlu.pretrain(**{**RUN, "dataset": tmp_path / "new", "init": folder / "base", "replay": folder / "data",
                             "replay_share": 0.25, "out": tmp_path / "on", "steps": 5})  # fmt: skip
    ledger, rows = made.lineage.ledger, 5 * RUN["batch_rows"]
    tokens = ledger["tokens"]
    assert ledger["replay"]["rows"] == rows // 4
    assert tokens["served"] == tokens["trained_on"] == rows * (tokens["served"] // rows)
    width = tokens["served"] // rows
    assert ledger["replay"]["served"] == rows // 4 * width
    assert tokens["epochs"] == pytest.approx((rows - rows // 4) * width / tokens["learnable"], abs=1e-6)
    assert ledger["replay_sources"] and ledger["replay"]["documents"] == 60
    assert {one.role for one in made.lineage.inputs} == {"dataset", "init", "replay"}
    with pytest.raises(BadSettings, match="--init"):
        danlu.pretrain(dataset=folder / "data", replay=folder / "data", out=tmp_path / "x", **RUN)
