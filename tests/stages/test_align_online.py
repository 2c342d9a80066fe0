"""`danlu align` by a model's own answers: it learns, a killed run ends with the same bytes, bad input is refused in words."""

import json
import signal
import subprocess
import sys
import time

import pytest
from tests.train.small_policy import model, teach, tokenizer

import danlu
from danlu.core import log
from danlu.core.errors import BadInput, BadSettings, TokenizerMismatch, UnsupportedModel
from danlu.core.files import sha256
from danlu.models.weights import save_model

FEW = [(0, b) for b in range(10)]
ROLLOUTS = {"prompts": 8, "answers": 4, "max_tokens": 4, "judge": 1}
FAST = {"rewards": ["exact"], "rollouts": ROLLOUTS, "optimiser": {"name": "adamw", "learning_rate": 1e-3},
        "judge": {"questions": 0, "text_tokens": 0}}  # fmt: skip


def write(folder, made):
    folder.mkdir()
    tokenizer().save(folder)
    save_model(made, folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    write(folder / "base", teach(model(), 60, FEW, habit=0.6))
    rows = [{"prompt": [{"role": "user", "content": f"0+{b}"}], "answer": str(b)} for _, b in FEW] * 3
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    danlu.prepare(str(folder / "sums.jsonl"), out=folder / "data", form="verifiable", holdout=0.2, dedups=[], engine="sequential")
    return folder


def flags(folder, out, **settings):
    return ["align", str(folder / "base"), str(folder / "data"), "-o", str(folder / out), "--rewards", "exact",
            *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]  # fmt: skip


def test_what_is_learned_is_published_with_its_numbers(place):
    made = danlu.align(
        place / "base", place / "data", out=place / "out", objective={"name": "grpo", "kl": 0.01}, steps=12, **FAST
    )
    metrics, ledger = made.lineage.metrics, made.lineage.ledger
    before, after = metrics["reward_before"], metrics["reward_after"]
    assert after["value"] > before["value"] and after["low"] <= after["value"] <= after["high"]
    assert 0 < metrics["stopped_after"] <= 1
    assert ledger["rollouts"]["answers"] == 12 * 32 == ledger["training"]["served"]
    assert ledger["training"]["epochs"] == pytest.approx(12 * 8 / ledger["train"]["parts"], abs=1e-5)
    page = (made.path / "report.html").read_text()
    assert "The model&#x27;s own answers" in page or "The model's own answers" in page
    report = json.loads((made.path / "report.json").read_text())
    assert report["metrics"]["reward_after"] == metrics["reward_after"]
    kinds = {event["kind"] for event in log.read_events(place / "out.run" / "events.jsonl")}
    assert {"rollout", "policy", "answer", "judged"} <= kinds
    assert len(danlu.load(made.path).generate("0", max_tokens=3)) >= 0


def test_a_run_killed_inside_a_roll_out_ends_with_the_same_bytes(place):
    """kill -9 from outside, at whatever moment it comes, with a value head, an adapter, and what is remembered of rewards."""
    settings = {**FAST, "objective": {"name": "ppo", "kl": 0.1, "rewards": "running", "kl_target": 1.0}, "steps": 24,
                "adapter": {"name": "lora", "rank": 4}, "rollouts": {**ROLLOUTS, "minibatches": 2, "passes": 2},
                "watch": {"save": {"every": 3}}}  # fmt: skip
    calm = danlu.align(place / "base", place / "data", out=place / "calm", **settings)
    recipe, run = place / "recipe.yaml", place / "killed.run"
    words = {"model": str(place / "base"), "dataset": str(place / "data"), "out": str(place / "killed"), **settings}
    recipe.write_text(json.dumps(words))
    for last in (False, True):
        process = subprocess.Popen([sys.executable, "-m", "danlu", "align", "--recipe", str(recipe)], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        if not last:
            while process.poll() is None and not (list(run.glob("checkpoints/step-*")) and list(run.glob("rollouts/*2.jsonl"))):
                time.sleep(0.01)
            process.kill()
        _, said = process.communicate(timeout=200)
        assert process.returncode == (0 if last else -signal.SIGKILL), said
    assert "going on after step" in said
    assert sha256(place / "killed" / "adapter_model.safetensors") == sha256(calm.path / "adapter_model.safetensors")


def test_one_who_stops_it_can_go_on(place):
    words = [sys.executable, "-m", "danlu", *flags(place, "stopped", steps=2000, **{
        "objective.name": "rloo", "rollouts.max_tokens": 4, "watch.save.every": 100000, "rollouts.judge": 0})]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((place / "stopped.run" / "rollouts").glob("*2.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode != 0 and "run the same command again" in said and "Traceback" not in said
    assert list((place / "stopped.run" / "checkpoints").glob("step-*")) and not (place / "stopped").exists()


def refused(place, error, match, **changes):
    settings = {"objective": "grpo", "steps": 2, **FAST, **changes}
    base, data = settings.pop("model", place / "base"), settings.pop("dataset", place / "data")
    with pytest.raises(error, match=match):
        danlu.align(base, data, out=place / "refused", **settings)
    assert not (place / "refused").exists() and not list((place / "refused.run").glob("checkpoints/step-*"))


def test_bad_input_is_refused_before_the_first_step(place):
    refused(place, BadSettings, "--rewards exact", rewards=[])
    refused(place, BadSettings, "no room for a prompt", rollouts={**ROLLOUTS, "max_tokens": 64})
    refused(place, BadInput, r"sums.jsonl:\d+.*leave room", rollouts={**ROLLOUTS, "max_tokens": 45})
    refused(place, BadSettings, "needs processes|shards", parallel="fsdp")
    refused(place, BadSettings, "raise or drop", overlong="truncate")
    refused(place, BadSettings, "answers 2", objective="rloo", rollouts={**ROLLOUTS, "answers": 1})
    refused(place, BadSettings, "danlu finetune", objective="sft")


def test_a_model_that_cannot_be_held_to_another_is_refused(place):
    from tests.tiny import tiny_model

    other = tiny_model(place / "other", "mamba").path
    folder = tiny_model(place / "masked", "bert").path
    (other / "tokenizer.json").write_text((place / "base" / "tokenizer.json").read_text().replace("Ġ", "Ħ"))
    refused(
        place,
        (TokenizerMismatch, UnsupportedModel),
        "token",
        objective={"name": "grpo", "kl": 0.1},
        reference=other,
        overwrite=True,
    )
    refused(place, UnsupportedModel, "text on", model=folder)
