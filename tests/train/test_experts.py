"""Training mixtures of experts: their use is told, balance survives a stop, and several processes count together."""

import math
import subprocess
import sys

import pytest
import torch
from tests.train import worker
from tests.train.small import small_run, token_set, weights

from danlu.core import log
from danlu.core.errors import Interrupted
from danlu.models import MODELS
from danlu.train.cost import Shape
from danlu.train.loop import train
from danlu.train.report import write
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import Tools

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens"))


def watcher(times=3):
    return WATCHERS.build(WATCHERS["experts"].Config(times=times), Tools())


@pytest.mark.parametrize(("family", "layers", "experts"), [("mixtral", 2, 8), ("qwen3_moe", 2, 16), ("deepseek_v3", 1, 8)])
def test_the_use_of_experts_is_told_and_shown(family, layers, experts, tmp_path, tokens):
    run = small_run(tmp_path, tokens, watchers=[watcher()], family=family)
    with log.listening(log.JsonLines(tmp_path / "events.jsonl")):
        train(run)
    told = [event for event in log.read_events(tmp_path / "events.jsonl") if event["kind"] == "experts"]
    assert [event["step"] for event in told] == [3, 5, 7]
    for event in told:
        assert (len(event["share"]), len(event["share"][0])) == (layers, experts)
        assert all(math.isclose(sum(row), 1.0, abs_tol=1e-3) for row in event["share"])
    write(tmp_path, tmp_path)
    assert "Use of the experts" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_dense_model_tells_nothing(tmp_path, tokens):
    with log.listening(log.JsonLines(tmp_path / "events.jsonl")):
        train(small_run(tmp_path, tokens, watchers=[watcher()]))
    assert not [event for event in log.read_events(tmp_path / "events.jsonl") if event["kind"] == "experts"]


class StopAt:
    """Asks for an end after a step, as Ctrl-C would."""

    def __init__(self, step):
        self.step = step

    def start(self, run):
        pass

    finish = start

    def after_step(self, run, facts):
        run.stop.asked = facts.step == self.step


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_stopped_and_gone_on_is_the_same_bias_and_the_same_weights(tmp_path, tokens, optimiser):
    settings = {"family": "deepseek_v3", "optimiser": optimiser}
    whole = small_run(tmp_path / "whole", tokens, **settings)
    train(whole)
    with pytest.raises(Interrupted, match="stopped after step 3 of 7"):
        train(small_run(tmp_path / "cut", tokens, watchers=[StopAt(3)], **settings))
    again = small_run(tmp_path / "cut", tokens, **settings)
    again.restore(again.checkpoints.latest())
    train(again)
    assert weights(whole)[BIAS].any()
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(again)[name], tensor), name


def test_two_processes_balance_by_the_tokens_of_both(tmp_path):
    """Replicas with Muon, whose stacks of experts go through one product, end where one process ends."""
    found = []
    for name, words in (("one", [sys.executable]), ("two", [sys.executable, *TORCHRUN])):
        (tmp_path / name).mkdir()
        mode = {"one": "auto", "two": "ddp"}[name]
        arguments = [str(tmp_path / name), mode, "muon", "4", "deepseek_v3"]
        done = subprocess.run([*words, worker.__file__, *arguments], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(torch.load(tmp_path / name / "weights.pt"))
    alone, shared = found
    assert torch.equal(shared[BIAS], alone[BIAS]) and alone[BIAS].any()
    for name, tensor in alone.items():
        torch.testing.assert_close(shared[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(("family", "within"), [("mixtral", 0.03), ("qwen3_moe", 0.03), ("deepseek_v3", 0.15)])
def test_the_dial_counts_the_experts_that_are_kept(family, within):
    """DeepSeek's attention and its dense first layer differ from the shape that the dial counts with."""
    config = MODELS[family].Config
    sizes = {"width": 192, "inner": 512, "layers": 6, "heads": 3}
    model = MODELS[family](config(**config.sized(**sizes, context=64), vocab_size=500, tie_word_embeddings=True))
    shape = Shape(**sizes, vocab=500, stored=config.stored({}))
    assert sum(part.numel() for part in model.parameters()) == pytest.approx(shape.parameters, rel=within)
    assert shape.parameters > 2 * Shape(**sizes, vocab=500).parameters
    assert shape.flops_per_token(64) == Shape(**sizes, vocab=500).flops_per_token(64)
