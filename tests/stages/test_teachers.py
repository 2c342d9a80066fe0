"""`danlu align` with a teacher: numbers from disk or memory teach the same, a killed run ends with the same weights."""

import pytest
import torch
from safetensors.torch import load_file
from tests.objectives.judged import document, said, write_chat_model
from tests.tiny import write_tiny

from danlu.core.artifact import open_artifact, publish
from danlu.core.errors import BadSettings, DanluError, NotAnArtifact, TokenizerMismatch
from danlu.core.settings import Settings, load
from danlu.data.shards import ShardWriter, schema
from danlu.stages.align import Align, align
from danlu.tokenizer.chat import CHATML
from danlu.train import teacher
from danlu.train.watchers.save import Save

TALKS = [(f"{a}+{b}?", str(a + b)) for a in range(4) for b in range(5)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    write_chat_model(folder / "student", noise=0.05, hidden_size=16, num_hidden_layers=1, max_position_embeddings=96)
    write_chat_model(folder / "teacher", noise=0.2, max_position_embeddings=96)
    write_chat_model(folder / "short", max_position_embeddings=16)
    talks = [document(at, messages=said("user", one) + said("assistant", two), tools="") for at, (one, two) in enumerate(TALKS)]
    asked = [document(at, prompt=said("user", one), answer=two, tools="") for at, (one, two) in enumerate(TALKS)]
    write_dataset(folder / "talks", talks)
    write_dataset(folder / "prompts", asked)
    return folder


def write_dataset(out, rows):
    import pyarrow as pa

    columns = dict.fromkeys(rows[0].sample, "text")
    with publish(out, kind="dataset", stage="prepare", settings=Settings()) as draft:
        for split, part in (("train", rows[4:]), ("validation", rows[:4])):
            writer = ShardWriter(draft.path, split, columns)
            keys = ("id", "source", "path", "line", "text", "licence", "language")
            table = [{key: getattr(one, key) for key in keys} | {"signals": []} | dict(one.sample) for one in part]
            writer.write(pa.Table.from_pylist(table, schema(columns)))
            writer.close()


def settings(place, out, name="distill", dataset="talks", **changes):
    base = {"model": place / "student", "dataset": place / dataset, "out": out, "teacher": place / "teacher", "steps": 4,
            "batch": 6, "judge": {"questions": 0, "text_tokens": 0}, "objective": {"name": name},
            "optimiser": {"learning_rate": 3e-3}}  # fmt: skip
    return load(Align, {**base, **changes})


def weights(out):
    return load_file(out / "model.safetensors")


def test_the_teachers_numbers_from_disk_and_from_memory_teach_nearly_the_same(place, tmp_path):
    for top in (0, 300, 40):
        align(settings(place, tmp_path / str(top), teacher_top=top, steps=3))
    held, whole, few = (weights(tmp_path / str(top)) for top in (0, 300, 40))
    moved = {name: part - weights(place / "student")[name] for name, part in held.items()}
    size = sum(float(part.square().sum()) for part in moved.values()) ** 0.5
    for other, share in ((whole, 0.05), (few, 0.9)):
        apart = sum(float((other[name] - part).square().sum()) for name, part in held.items()) ** 0.5
        assert apart < share * size
    assert not (tmp_path / "0.run" / teacher.NAME).exists() and (tmp_path / "40.run" / teacher.NAME).is_file()
    record = open_artifact(tmp_path / "0").lineage
    assert {one.role for one in record.inputs} == {"model", "dataset", "teacher"}


@pytest.mark.parametrize(("name", "dataset"), [("distill", "talks"), ("gkd", "prompts")])
def test_a_killed_run_ends_with_the_same_weights(place, tmp_path, monkeypatch, name, dataset):
    more = {"rollouts": {"prompts": 3, "answers": 2, "max_tokens": 4, "minibatches": 2, "judge": 0},
            "watch": {"save": {"name": "save", "every": 1}}} | ({} if name == "gkd" else {"batch": 5})  # fmt: skip
    align(settings(place, tmp_path / "whole", name, dataset, **more))
    after, opened = Save.after_step, []

    def dies(self, run, facts):
        after(self, run, facts)
        if facts.step == 3:
            run.checkpoints.wait()
            raise KeyboardInterrupt

    monkeypatch.setattr(Save, "after_step", dies)
    with pytest.raises(KeyboardInterrupt):
        align(settings(place, tmp_path / "killed", name, dataset, **more))
    monkeypatch.setattr(Save, "after_step", after)
    monkeypatch.setattr("danlu.stages.teachers._open", lambda folder: opened.append(folder) or _reopen(folder))
    align(settings(place, tmp_path / "killed", name, dataset, **more))
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(part, two[key]) for key, part in one.items())
    assert len(opened) == (name == "gkd")  # what lies on disk needs no teacher any more


def _reopen(folder):
    from danlu.models.weights import load_model

    return load_model(folder).eval()


@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"teacher": None}, BadSettings, "which model that is with --teacher"),
    ({"teacher": "nowhere"}, NotAnArtifact, "no readable config.json"),
    ({"teacher": "short"}, BadSettings, "sees 16 tokens at once"),
    ({"objective": {"name": "gkd"}, "dataset": "prompts", "teacher": "short", "rollouts": {"max_tokens": 8}}, BadSettings,
     "sees 16 tokens at once"),
    ({"objective": {"name": "gkd"}}, BadSettings, "learns from samples with prompt"),
    ({"objective": {"name": "distill"}, "dataset": "prompts"}, BadSettings, "learns from samples with messages"),
    ({"objective": {"name": "grpo"}, "dataset": "prompts"}, BadSettings, "learns from no teacher"),
    ({"objective": {"name": "distill", "beta": 1.5}}, BadSettings, "less than or equal to 1"),
    ({"objective": {"name": "distill", "temperature": 0}}, BadSettings, "greater than 0"),
    ({"teacher_top": -1}, BadSettings, "teacher_top"),
])  # fmt: skip
def test_what_cannot_work_is_said_before_anything_is_learned(place, tmp_path, changes, error, words):
    for key in ("teacher", "dataset"):
        if changes.get(key):
            changes = {**changes, key: place / changes[key]}
    with pytest.raises(error, match=words):
        align(settings(place, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_another_vocabulary_is_refused(place, tmp_path):
    from tests.tiny import tiny_tokenizer

    from danlu.tokenizer.turns import with_template

    write_tiny(tmp_path / "other", vocab_size=tiny_tokenizer("<|more|>").vocab_size)
    with_template(tiny_tokenizer("<|more|>"), CHATML).save(tmp_path / "other")
    with pytest.raises(TokenizerMismatch, match="another vocabulary"):
        align(settings(place, tmp_path / "out", teacher=tmp_path / "other"))


def test_a_teacher_without_words_is_refused(place, tmp_path):
    from danlu.engine.heads import save_headed
    from danlu.models.heads import HeadConfig, attach, load_body
    from danlu.tokenizer.tokenizer import Tokenizer

    (tmp_path / "headed").mkdir()
    save_headed(
        attach(load_body(place / "teacher"), HeadConfig(task="reward"), 0), Tokenizer.open(place / "teacher"), tmp_path / "headed"
    )
    with pytest.raises(DanluError, match="does not write a text on"):
        align(settings(place, tmp_path / "out", teacher=tmp_path / "headed"))
