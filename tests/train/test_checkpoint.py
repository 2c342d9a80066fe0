"""Checkpoints are whole or not there, hold everything, and the last good one survives whatever happens to the next."""

import json
import shutil

import pytest
import torch
from tests.train.small import small_run, token_set

from danlu.core.errors import DamagedArtifact, NoSpace
from danlu.train.checkpoint import Checkpoints, training_state
from danlu.train.launch import World
from danlu.train.loop import train


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens"))


def state(step):
    return {"model.w": torch.arange(6.0).view(2, 3) + step}


def facts(step, loss=None):
    return {"step": step, "heldout_loss": loss}


@pytest.mark.parametrize("optimiser", ["adamw", "muon", "sgd"])
def test_a_checkpoint_holds_model_and_optimiser_bit_by_bit(tmp_path, tokens, optimiser):
    run = small_run(tmp_path, tokens, optimiser=optimiser, steps=3)
    train(run)
    run.save(wait=True)
    fresh = small_run(tmp_path, tokens, optimiser=optimiser, steps=3)
    fresh.restore(fresh.checkpoints.latest())
    expected, found = (training_state(one.parallel.model, one.optimiser) for one in (run, fresh))
    assert found.keys() == expected.keys() and any(name.startswith("optimiser.") for name in expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype, name
    assert (fresh.step, fresh.done.tokens) == (3, run.done.tokens) and list(fresh.guard.losses) == list(run.guard.losses)


def test_what_is_saved_is_the_moment_of_saving(tmp_path):
    checkpoints = Checkpoints(tmp_path, World())
    tensors = state(0)
    checkpoints.save(tensors, facts(1))
    tensors["model.w"] += 100  # training goes on while the writer writes
    checkpoints.wait()
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(2, 3))
    checkpoints.load(checkpoints.latest(), model)
    assert torch.equal(model.w, state(0)["model.w"])


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, World(), keep=2)
    for step, loss in ((1, 3.0), (2, 1.0), (3, None), (5, 2.0), (7, 2.5)):
        checkpoints.save(state(step), facts(step, loss), wait=True)
    assert [saved.step for saved in checkpoints.all()] == [2, 5, 7]
    assert checkpoints.latest().step == 7 and checkpoints.best().step == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000005", "step-000007"]


def test_half_a_checkpoint_is_not_seen_and_is_cleared(tmp_path):
    Checkpoints(tmp_path, World()).save(state(1), facts(1), wait=True)
    shutil.copytree(tmp_path / "step-000001", tmp_path / ".step-000004.partial")
    again = Checkpoints(tmp_path, World())
    assert [saved.step for saved in again.all()] == [1] and not (tmp_path / ".step-000004.partial").exists()


@pytest.mark.parametrize("broken", ["fsync", "no room"])
def test_a_full_disk_is_said_and_the_last_good_checkpoint_stays(tmp_path, monkeypatch, broken):
    checkpoints = Checkpoints(tmp_path, World())
    checkpoints.save(state(1), facts(1), wait=True)

    def full(handle):
        raise OSError(28, "No space left on device")

    if broken == "fsync":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr("danlu.core.files.free_bytes", lambda path: 5)
    with pytest.raises(NoSpace, match=r"No space left|5 bytes|is free"):
        checkpoints.save(state(2), facts(2), wait=True)
    monkeypatch.undo()
    assert [saved.step for saved in checkpoints.all()] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    checkpoints.save(state(2), facts(2), wait=True)
    assert checkpoints.latest().step == 2, "once there is room, saving works again"


def test_a_writers_error_shows_at_the_next_save(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, World())

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    checkpoints.save(state(1), facts(1))
    with pytest.raises(NoSpace):
        checkpoints.save(state(2), facts(2))


def test_a_damaged_checkpoint_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, World())
    checkpoints.save(state(1), facts(1), wait=True)
    for path in (tmp_path / "step-000001").glob("*.distcp"):
        path.write_bytes(path.read_bytes()[:10])
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(DamagedArtifact, match="step-000001"):
        checkpoints.load(checkpoints.latest(), model)


def test_the_facts_are_plain_json(tmp_path):
    checkpoints = Checkpoints(tmp_path, World())
    checkpoints.save(state(1), {**facts(1, 0.1 + 0.2), "tokens": 78}, wait=True)
    stored = json.loads((tmp_path / "step-000001" / "state.json").read_text())
    assert stored == {"step": 1, "heldout_loss": 0.1 + 0.2, "tokens": 78}
