"""Several processes learn what one learns: the same rows in the same order, the same losses to rounding."""

import json
import subprocess
import sys

import pytest
import torch
from tests.train import worker
from tests.train.small import small_run, token_set

from danlu.core.errors import BadSettings
from danlu.models import MODELS
from danlu.objectives.base import Batch
from danlu.train.launch import World
from danlu.train.parallel import Parallel, choose, clip, save_activations


def start(folder, mode, optimiser, stop_after, processes=2, family="qwen3"):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), worker.__file__]
    done = subprocess.run(
        [sys.executable, *words, str(folder), mode, optimiser, str(stop_after), family],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def result(folder):
    lines = (folder / "steps.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], torch.load(folder / "weights.pt")


def make(folder):
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Nine steps in one process, with each optimiser."""
    found = {}
    for optimiser in ("adamw", "muon"):
        folder = make(tmp_path_factory.mktemp("alone") / optimiser)
        worker.main(folder, "auto", optimiser, 9)
        found[optimiser] = result(folder)
    return found


def check_same(found, expected):
    for (step, loss, norm, rows), (step_e, loss_e, norm_e, rows_e) in zip(found[0], expected[0], strict=True):
        assert (step, rows) == (step_e, rows_e), "the same samples in the same order"
        assert loss == pytest.approx(loss_e, rel=1e-4) and norm == pytest.approx(norm_e, rel=1e-3)
    for name, tensor in expected[1].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_two_replicas_learn_what_one_process_learns(alone, tmp_path):
    start(tmp_path, "ddp", "adamw", 9)
    check_same(result(tmp_path), alone["adamw"])


def test_one_process_then_two_shards_then_one_again(alone, tmp_path):
    worker.main(tmp_path, "auto", "muon", 3)
    start(tmp_path, "fsdp", "muon", 6)
    worker.main(tmp_path, "auto", "muon", 9)
    check_same(result(tmp_path), alone["muon"])
    assert [row[0] for row in result(tmp_path)[0]] == list(range(1, 10)), "no step twice, none left out"


def test_a_mode_that_the_processes_do_not_allow_is_refused():
    with pytest.raises(BadSettings, match="torchrun"):
        choose("fsdp", World())
    with pytest.raises(BadSettings, match="2 processes"):
        choose("none", World(size=2))


def test_recomputed_activations_give_the_same_gradients(tmp_path):
    tokens = token_set(tmp_path / "tokens")
    grads = []
    for prepare in (None, save_activations):
        run = small_run(tmp_path / "run", tokens, prepare=prepare)
        run.parallel.loss_sum(run.batches.step(0)[0]).backward()
        grads.append({name: part.grad for name, part in run.parallel.model.named_parameters()})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-6, atol=1e-7, msg=name)


def test_recomputing_keeps_fewer_activations():
    kept = []
    for prepare in (None, save_activations):
        model = MODELS["qwen3"].tiny()
        if prepare:
            prepare(model)
        ids = torch.arange(22).view(2, 11)
        parallel = Parallel(model, _Causal(), World())
        kept.append(0)

        def keep(part):
            kept[-1] += part.numel()
            return part

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
            parallel.loss_sum(Batch(ids, ids))
    assert kept[1] < kept[0] / 2


class _Causal(torch.nn.Module):
    def loss_sum(self, model, batch):
        return model.cross_entropy_sum(model.hidden(batch.ids).flatten(0, 1), batch.targets.flatten())


def test_clipping_tells_the_norm_before_and_bounds_the_norm_after():
    parts = [torch.nn.Parameter(torch.zeros(n)) for n in (2, 3)]
    for part in parts:
        part.grad = torch.full_like(part, 3.0)
    assert clip(parts, 0.0) == pytest.approx(45**0.5)
    assert clip(parts, 2.0) == pytest.approx(45**0.5)
    assert clip(parts, 0.0) == pytest.approx(2.0, rel=1e-4)


def test_a_batch_is_brought_to_where_the_model_computes():
    seen = []

    class Look:
        def loss_sum(self, model, batch):
            seen.append(batch)
            return batch.ids.sum()

    batch = Batch(
        torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int32), [5, 7]
    )
    Parallel(MODELS["qwen3"].tiny().eval(), Look(), World(device=torch.device("meta"))).loss_sum(batch)
    assert {part.device.type for part in (seen[0].ids, seen[0].targets, seen[0].documents)} == {"meta"}
    assert seen[0].origin == [5, 7]
    assert batch.to(torch.device("cpu")) is batch, "nothing is copied that is there already"
