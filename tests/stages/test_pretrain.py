"""The pretrain stage from end to end: a loadable folder, ledgers that add up, runs that survive what happens to them."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from tests.stages import small_pretrain
from tests.stages.small_pretrain import SMALL, flags, pace, settings, write_dataset, write_tokenizer

import danlu
from danlu.core import log
from danlu.core.artifact import open_artifact
from danlu.core.errors import (
    BadSettings,
    DatasetTooSmall,
    NoSpace,
    OutOfMemory,
    OutputExists,
    TokenizerMismatch,
    WorkFolderMismatch,
)
from danlu.core.files import sha256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    write_dataset(folder / "data")
    write_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    monkeypatch.setattr("danlu.train.speed.measure", lambda threads=None, dtype=None: pace())


def pretrain(**changes):
    return danlu.pretrain(**changes)


def command(*words, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, small_pretrain.__file__, "pretrain", *words], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(folder):
    """One finished run, with events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("danlu.train.speed.measure", lambda threads=None, dtype=None: pace())
        return pretrain(**settings(folder, "whole"))


def test_the_folder_loads_in_transformers_with_the_same_logits(model):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model.path)
    ours = danlu.load(model.path)
    ids = torch.arange(22).view(2, 11) * 11 % 259
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
    assert len(transformers.AutoTokenizer.from_pretrained(model.path)) == ours.tokenizer.vocab_size


def test_the_token_ledger_adds_up(model, folder):
    ledger = model.lineage.ledger["tokens"]
    sources = model.lineage.ledger["train_sources"]
    assert ledger["stored"] == sum(row["tokens"] for row in sources.values())
    assert ledger["documents"] == sum(row["documents"] for row in sources.values()) == 60
    assert ledger["learnable"] == ledger["stored"] - ledger["documents"], "the token that opens a document is never a target"
    assert ledger["served"] == ledger["trained_on"] + ledger["left_out"] == 30 * 4 * 24
    assert ledger["epochs"] == pytest.approx(ledger["served"] / ledger["learnable"], abs=1e-6)
    bytes_read = sum(row["bytes"] for row in sources.values())
    assert ledger["stored"] == bytes_read + 2 * ledger["documents"], "bytes are the tokens here, and bos and eos"


def test_lineage_leads_back_and_figures_are_there(model, folder):
    record = model.lineage
    assert {source.role: source.id for source in record.inputs} == {
        "dataset": open_artifact(folder / "data").id, "tokenizer": open_artifact(folder / "tokenizer").id,
    }  # fmt: skip
    assert record.licences == ("CC0-1.0",) and record.seeds == {"seed": 0} and record.stage == "pretrain"
    assert record.metrics["steps"] == 30 and record.metrics["tokens"] == 30 * 4 * 24
    assert 0 < record.metrics["bits_per_byte"] < 8 and record.metrics["parameters"] > 0
    card = (model.path / "README.md").read_text()
    assert "CC0-1.0" in card and "book" in card and "bits per byte" in card
    assert (model.path / "report.html").is_file() and json.loads((model.path / "report.json").read_text())["steps"] == 30
    open_artifact(model.path, "model", verify=True)


def test_a_text_learned_by_heart_leaves_the_weights_of_the_lowest_loss(folder, tmp_path):
    """Letters by chance: nothing in them helps with others, so that what is learned beyond their shares is learned by heart."""
    chance = random.Random(7)
    write_dataset(tmp_path / "data", 12, 4, lambda *_: "".join(chance.choices("abcdefgh", k=60)))
    learned = {"dataset": tmp_path / "data", "steps": 120, "optimiser": {"name": "muon", "learning_rate": 0.02}}
    made = {keep: pretrain(**settings(folder, str(tmp_path / keep), weights=keep, **learned)) for keep in ("best", "last")}
    best, last = (one.lineage for one in made.values())
    assert best.metrics["heldout_loss"] < 0.98 * last.metrics["heldout_loss"] and "weights_of_step" not in last.metrics
    taken = best.metrics["weights_of_step"]
    assert 0 < taken < 120 == best.metrics["steps"]
    assert best.ledger["tokens"]["behind_the_weights"] == taken * 4 * 24 < best.ledger["tokens"]["trained_on"]
    events = {path: list(log.read_events(tmp_path / f"{path}.run" / "events.jsonl")) for path in made}
    lowest = min((event["loss"], event["step"]) for event in events["best"] if event["kind"] == "heldout")
    assert lowest[1] == taken
    final = [event for event in events["best"] if event["kind"] == "heldout_final"]
    assert [(event["step"], event["loss"]) for event in final] == [(taken, pytest.approx(lowest[0], rel=1e-5))]
    said = {path: [event["text"] for event in found if event["kind"] == "warn"] for path, found in events.items()}
    drawn = {path: (one.path / "report.html").read_text() for path, one in made.items()}
    assert f"The model has the weights of step {taken} (ringed)" in drawn["best"] and "(ringed)" not in drawn["last"]
    assert f"the weights of step {taken}, not the last" in said["best"][-1] and "the weights of the last step" in said["last"][-1]


def test_events_carry_what_reports_read(model, folder):
    found = {}
    for event in log.read_events(folder / "whole.run" / "events.jsonl"):
        found.setdefault(event["kind"], []).append(event)
    assert [event["step"] for event in found["step"]] == list(range(1, 31))
    last = found["step"][-1]
    assert {"tokens", "loss", "grad_norm", "lr", "tokens_per_s", "seconds", "memory_bytes", "mfu"} <= last.keys()
    assert last["tokens"] == 30 * 4 * 24 and last["loss"] < found["step"][0]["loss"]
    heldout = found["heldout"][-1]
    assert {"step", "tokens", "loss", "bits_per_byte", "seconds"} <= heldout.keys() and heldout["step"] == 30
    assert {"step", "prompt", "text"} <= found["sample"][-1].keys() and found["checkpoint"] and found["plan"]


def test_heldout_bits_per_byte_is_the_loss_of_the_documents_over_their_bytes(model, folder):
    """Worked out again from the finished folder: documents end to end, cut where rows end, each piece scored alone."""
    from danlu.data.shards import read_documents

    engine = danlu.load(model.path)
    nats = size = place = 0
    for document in read_documents(folder / "data", "validation"):
        ids = torch.tensor([engine.tokenizer.bos_id, *engine.tokenizer.encode(document.text), engine.tokenizer.eos_id])
        size += len(document.text.encode())
        begin = 0
        while begin < len(ids) - 1:
            end = min(begin + SMALL["row_tokens"] - place % SMALL["row_tokens"], len(ids) - 1)
            scores = engine.logits(ids[None, begin:end]).log_softmax(-1)[0]
            nats -= scores.gather(1, ids[begin + 1 : end + 1, None]).sum().item()
            place, begin = place + end - begin, end
    heldout = [event for event in log.read_events(folder / "whole.run" / "events.jsonl") if event["kind"] == "heldout"][-1]
    assert (heldout["documents"], heldout["targets"]) == (5, place)
    assert heldout["loss"] == pytest.approx(nats / place, rel=1e-5)
    assert heldout["bits_per_byte"] == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert model.lineage.metrics["bits_per_byte"] == heldout["bits_per_byte"]


def test_a_finished_output_is_refused_unless_overwritten(model, folder):
    with pytest.raises(OutputExists, match="--overwrite"):
        pretrain(**settings(folder, "whole"))
    before = sha256(model.path / "model.safetensors")
    again = pretrain(**settings(folder, "whole", overwrite=True))
    assert sha256(again.path / "model.safetensors") == before, "the same command makes the same weights"


def test_settings_that_shape_the_result_may_not_change_under_way(folder):
    words = settings(folder, "mixed")
    with pytest.raises(NoSpace):
        _dying(words)
    with pytest.raises(WorkFolderMismatch, match=r"seed: 0 there, 3 now"):
        pretrain(**{**words, "seed": 3})
    finished = pretrain(**{**words, "watch": {"heldout": {"times": 2}, "save": {"every": 4}}})
    assert finished.lineage.metrics["steps"] == 30, "how a run is watched may change"


def _dying(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("danlu.core.files.free_bytes", lambda path: 5)
        pretrain(**words)


def test_a_full_disk_stops_the_run_and_the_last_checkpoint_stays(folder):
    words = settings(folder, "full", watch={"save": {"every": 5}})
    with pytest.MonkeyPatch.context() as patch:
        from danlu.train.checkpoint import Checkpoints

        write = Checkpoints._write

        def full(self, tensors, facts):
            if facts["step"] > 10:
                raise OSError(28, "No space left on device")
            write(self, tensors, facts)

        patch.setattr(Checkpoints, "_write", full)
        with pytest.raises(NoSpace, match="run the same command again"):
            pretrain(**words)
    assert sorted(path.name for path in (folder / "full.run" / "checkpoints").iterdir())[-1] == "step-000010"
    assert not (folder / "full").exists()
    assert pretrain(**words).lineage.metrics["steps"] == 30


def test_ctrl_c_saves_says_how_to_go_on_and_goes_on_to_the_same_weights(model, folder):
    words = flags(settings(folder, "stopped"))
    process = command(*words)
    _until(lambda: _step(folder / "stopped.run") >= 5, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "To go on, run the same command again" in said, said
    assert not (folder / "stopped").exists()
    process = command(*words)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0 and "going on after step" in said, said
    assert sha256(folder / "stopped" / "model.safetensors") == sha256(model.path / "model.safetensors")


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_ends_with_the_same_bits(folder, kills):
    name, steps = f"killed{kills}", 40 * kills
    words = settings(folder, name, steps=steps, watch={"save": {"every": 7}, "samples": {"times": 2}})
    expected = pretrain(**{**words, "out": folder / f"calm{kills}"})
    chance, landed = random.Random(0), 0
    for kill in range(kills):
        if (folder / name).exists():  # a fast machine may be done before the last kill
            break
        process = command(*flags(words))
        if kill % 2:  # at a moment of training
            aim = _step(folder / f"{name}.run") + chance.randrange(1, 40)
            _until(lambda: _step(folder / f"{name}.run") >= aim, process)  # noqa: B023
        time.sleep(chance.uniform(0, 4 if kill % 2 == 0 else 0.05))  # at any moment, tokenising and start included
        process.kill()
        process.communicate()
        landed += process.returncode == -signal.SIGKILL
    assert landed >= min(kills, 2)
    if not (folder / name).exists():
        process = command(*flags(words))
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    assert sha256(folder / name / "model.safetensors") == sha256(expected.path / "model.safetensors")
    assert open_artifact(folder / name).lineage.ledger == expected.lineage.ledger


def _step(run):
    """The last step that the log of a run has seen."""
    return max((event["step"] for event in log.read_events(run / "events.jsonl") if event["kind"] == "step"), default=0)


def _until(claim, process, seconds=120):
    end = time.monotonic() + seconds
    while not claim() and process.poll() is None:
        assert time.monotonic() < end, "the run did not get there"
        time.sleep(0.02)


def test_two_sharded_processes_train_and_publish_one_model(model, folder):
    """torchrun with a checkpoint after every other step, so that saving and training talk at the same time."""
    words = flags(settings(folder, "shards", parallel="fsdp", watch={"save": {"every": 2}}))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", small_pretrain.__file__]
    done = subprocess.run(
        [sys.executable, *launcher, "pretrain", *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0
    losses, expected = (
        [event["loss"] for event in log.read_events(folder / f"{name}.run" / "events.jsonl") if event["kind"] == "step"]
        for name in ("shards", "whole")
    )
    assert losses[:10] == pytest.approx(expected[:10], rel=1e-3)
    assert losses == pytest.approx(expected[-30:], rel=2e-2), "rounding grows with the steps, and no further"
    assert bool(torch.isfinite(danlu.load(folder / "shards").logits([[2, 3, 5]])).all())
    ledger = open_artifact(folder / "shards").lineage.ledger
    assert ledger == model.lineage.ledger


def test_a_dataset_smaller_than_a_batch_is_refused_with_both_numbers(tmp_path):
    write_dataset(tmp_path / "data", documents=1)
    write_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(DatasetTooSmall, match="one step takes 4096"):
        pretrain(**settings(tmp_path, row_tokens=1024))
    assert not (tmp_path / "model").exists()
    assert pretrain(**settings(tmp_path, row_tokens=8, steps=2)), "the advice can be followed at once"


def test_rows_longer_than_a_given_context_are_refused_by_name(folder):
    with pytest.raises(BadSettings, match=r"--row_tokens 32 is more than the context of 16 that --model.max_position_embeddings"):
        pretrain(**settings(folder, "long", row_tokens=32, model={**SMALL["model"], "max_position_embeddings": 16}))
    assert not (folder / "long").exists()


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(folder):
    with pytest.raises(TokenizerMismatch, match="100 is smaller than the tokenizer's 259"):
        pretrain(**settings(folder, "narrow", model={**SMALL["model"], "vocab_size": 100}))


def test_a_run_that_cannot_fit_is_refused_before_any_work(folder, monkeypatch):
    monkeypatch.setattr("danlu.stages.pretrain.memory_bytes", lambda: 1000)
    with pytest.raises(OutOfMemory, match="Nothing has begun"):
        pretrain(**settings(folder, "large"))
    assert not (folder / "large.run" / "tokens").exists()


@pytest.mark.parametrize("budget", ["-3m", "0s", "soon"])
def test_a_budget_that_is_none_is_refused(folder, budget):
    with pytest.raises(BadSettings, match="budget"):
        pretrain(**settings(folder, "none", budget=budget))


def test_without_a_tokenizer_one_is_trained_and_published_with_the_model(tmp_path):
    write_dataset(tmp_path / "data")
    made = pretrain(**settings(tmp_path, tokenizer=None, vocab_size=300, steps=3))
    assert danlu.load(made.path).tokenizer.vocab_size == 300
    again = pretrain(**settings(tmp_path, tokenizer=None, vocab_size=280, steps=3, overwrite=True))
    assert danlu.load(again.path).tokenizer.vocab_size == 280, "a run made again learns its own tokenizer"
    assert open_artifact(tmp_path / "model.run" / "tokenizer").kind == "tokenizer"
