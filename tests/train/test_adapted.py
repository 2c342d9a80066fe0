"""The training loop with an adapter: the base stays as it is, checkpoints hold what learns alone, a run goes on bit by bit."""

import shutil
from contextlib import suppress

import pytest
import torch
from tests.models.adapters.moved import moved
from tests.train import worker
from tests.train.small import small_run, token_set, weights
from tests.train.test_parallel import check_same, result, start

from danlu.core.errors import Interrupted
from danlu.models.freeze import freeze
from danlu.train.checkpoint import training_state
from danlu.train.loop import train

KINDS = {
    "lora": {"rank": 2}, "dora": {"rank": 2}, "prompt": {"tokens": 3}, "prefix": {"tokens": 3},
    "dropped": {"rank": 2, "dropout": 0.3}, "int4": {"rank": 2, "base": "int4", "group": 8},
    "whole": {"rank": 2, "whole": ["norm"]},
    "rows": {"rank": 2, "new_rows": [2, 30]},
}  # fmt: skip


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens"))


def laid(case):
    return lambda model: moved(model, case if case in ("dora", "prompt", "prefix") else "lora", **KINDS[case])


@pytest.mark.parametrize(("case", "optimiser"), [*((case, "adamw") for case in KINDS), ("lora", "muon"), ("rows", "muon")])
def test_a_run_that_stops_and_goes_on_ends_with_the_same_weights(case, optimiser, tmp_path, tokens):
    whole = small_run(tmp_path / "whole", tokens, prepare=laid(case), optimiser=optimiser, steps=6)
    whole.parallel.model.train()
    before = weights(whole)
    train(whole)
    learned, learns = weights(whole), {name for name, part in whole.parallel.model.named_parameters() if part.requires_grad}
    assert {name for name, tensor in learned.items() if not torch.equal(tensor, before[name])} == learns
    half = small_run(
        tmp_path / "half", tokens, prepare=laid(case), optimiser=optimiser, steps=6, watchers=[worker.Losses(stop_after=3)]
    )
    half.parallel.model.train()
    with suppress(Interrupted):
        train(half)
    saved = training_state(half.parallel.model, half.optimiser)
    assert {name.removeprefix("model.") for name in saved if name.startswith("model.")} == learns
    assert {".".join(name.split(".")[1:-1]) for name in saved if name.startswith("optimiser.")} == learns
    again = small_run(tmp_path / "half", tokens, prepare=laid(case), optimiser=optimiser, steps=6)
    again.parallel.model.train()
    again.restore(again.checkpoints.latest())
    train(again)
    assert all(torch.equal(tensor, learned[name]) for name, tensor in weights(again).items())


def test_a_checkpoint_of_an_adapter_is_small(tmp_path, tokens):
    sizes = {}
    for case in (None, "lora"):
        run = small_run(tmp_path / str(case), tokens, prepare=laid(case) if case else None, steps=1)
        train(run)
        run.save(wait=True)
        sizes[case] = sum(part.stat().st_size for part in run.checkpoints.latest().path.rglob("*.distcp"))
    assert sizes["lora"] < 0.6 * sizes[None]


def test_frozen_layers_stay_and_are_in_no_checkpoint(tmp_path, tokens):
    run = small_run(tmp_path, tokens, prepare=lambda model: freeze(model, ["model.layers.0.*", "model.embed_tokens.*"]), steps=3)
    before = weights(run)
    train(run)
    still = {name for name, tensor in weights(run).items() if torch.equal(tensor, before[name])}
    assert still == {name for name in before if name.startswith(("model.layers.0.", "model.embed_tokens."))}
    assert not any(name.removeprefix("model.") in still for name in training_state(run.parallel.model, run.optimiser))


@pytest.mark.parametrize("mode", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_two_processes_teach_an_adapter_over_a_base_in_codes_what_one_does(mode, tmp_path):
    alone, two = tmp_path / "alone", tmp_path / mode
    for folder in (alone, two):
        folder.mkdir()
    worker.main(alone, "auto", "adamw", 5, "qwen3+lora")
    shutil.copytree(alone / "checkpoints", two / "checkpoints")
    worker.main(alone, "auto", "adamw", 9, "qwen3+lora")
    start(two, mode, "adamw", 9, family="qwen3+lora")
    steps, learned = result(alone)
    check_same(result(two), (steps[5:], learned))


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_moe"])
def test_a_frozen_router_keeps_its_balance_and_frozen_experts_their_weights(family, tmp_path, tokens):
    run = small_run(tmp_path, tokens, family=family, prepare=laid("lora"), steps=3)
    run.parallel.model.train()
    before = weights(run)
    train(run)
    changed = {name for name, tensor in weights(run).items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name, part in run.parallel.model.named_parameters() if part.requires_grad}
