"""What the studio's page asks for: the live engine, run folders and nothing outside them, ancestors of served models."""

import json
import os

import pytest
from tests.server.running import made_service, serving
from tests.tiny import tiny_model

from danlu.core.artifact import Artifact
from danlu.server import runs
from danlu.server.models import Served


def write_run(folder, steps, finished=False):
    """A work folder as training leaves it."""
    folder.mkdir(parents=True)
    losses = [float("nan") if at == 3 else 5.0 - at / 100 for at in range(steps + 1)]
    events = [{"time": 100.0 + at, "kind": "step", "step": at, "tokens": at * 64, "loss": losses[at],
               "grad_norm": 1.0, "lr": 0.1, "tokens_per_s": 640.0, "seconds": at / 10} for at in range(1, steps + 1)]  # fmt: skip
    events += [
        {
            "time": 200.0,
            "kind": "heldout",
            "step": steps,
            "tokens": steps * 64,
            "loss": 4.5,
            "bits_per_byte": 2.5,
            "unit": "nats",
        },
        {"time": 201.0, "kind": "sample", "step": steps, "prompt": "The", "text": " end"},
        {"time": 202.0, "kind": "warn", "text": "look"},
        {"time": 203.0, "kind": "checkpoint", "step": steps, "path": "/secret/place/step-9"},
        {"time": 204.0, "kind": "guard", "step": 3, "action": "skip", "culprit": "x", "loss": float("inf")},
    ]
    text = "".join(json.dumps(one) + "\n" for one in events)
    (folder / "events.jsonl").write_text(text + '{"time": 205.0, "kind": "st')  # a crash cut the last line
    (folder / "run.json").write_text(json.dumps({"identity": {"dataset": "/secret/place/data"}, "finished": finished}))
    (folder / "plan.json").write_text(json.dumps({"steps": 400}))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A server of a model with a record, and a root of runs."""
    root = tmp_path_factory.mktemp("shown")
    made: Artifact = tiny_model(root / "model")
    (made.path / "README.md").write_text("# A card\n")
    (made.path / "receipt.json").write_text('{"perplexity_ratio": {"value": 1.01}, "text": ["/secret/place/notes.txt"]}')
    write_run(root / "runs" / "first.run", 50)
    write_run(root / "runs" / "deep" / "second.run", 5, finished=True)
    write_run(root / "outside.run", 5)
    (root / "runs" / "link.run").symlink_to(root / "outside.run")
    os.utime(root / "runs" / "first.run" / "events.jsonl", (10**9, 10**9))
    with serving(made_service(Served("m", root / "model"), runs=root / "runs")) as running:
        yield running


def test_runs_are_listed_newest_first_with_where_they_stand(shown):
    listed = shown.get("/v1/danlu/runs").json()["data"]
    assert [(one["name"], one["state"]) for one in listed] == [("deep/second", "finished"), ("first", "stopped")]
    first = listed[1]
    assert (first["step"], first["steps"], first["tokens"], first["loss"]) == (50, 400, 3200, 4.5)
    assert (first["heldout_loss"], first["heldout_bits_per_byte"], first["tokens_per_s"]) == (4.5, 2.5, 640.0)


def test_a_run_is_told_whole_and_thinned_evenly(shown):
    told = shown.get("/v1/danlu/runs/first?points=8").json()
    assert told["curve"]["step"][0] == 1 and told["curve"]["step"][-1] == 50 and len(told["curve"]["step"]) == 8
    assert {len(column) for column in told["curve"].values()} == {8}
    whole = shown.get("/v1/danlu/runs/deep/second").json()
    assert whole["curve"]["loss"][2] is None and whole["curve"]["loss"][1] == 4.98
    assert whole["samples"] == [{"step": 5, "time": 201.0, "prompt": "The", "text": " end"}]
    assert whole["notes"] == [{"time": 202.0, "kind": "warn", "text": "look"}] and whole["guard"][0]["loss"] is None
    assert whole["checkpoints"] == [{"step": 5, "time": 203.0}] and whole["plan"] == {"steps": 400}
    assert whole["settings"] == {"dataset": "data"} and "/secret" not in json.dumps(whole)


@pytest.mark.parametrize("name", [
    "nothing", "../outside", "deep/../../outside", "link", "..", "deep//second", "%2e%2e/outside", "first.run", "deep", "x%00",
])  # fmt: skip
def test_nothing_outside_the_root_is_a_run(shown, name):
    answer = shown.get(f"/v1/danlu/runs/{name}")
    assert answer.status_code == 404 and answer.json()["error"]["code"] in ("run_not_found", "not_found")
    assert runs.confined(shown.service.runs, name.replace("%2e", ".").replace("%00", "\x00")) is None


def test_without_a_root_there_are_no_runs(live):
    assert live.get("/v1/danlu/runs").json() == {"object": "list", "data": []}
    assert live.get("/v1/danlu/runs/first").status_code == 404


def test_the_live_engine_is_told_in_numbers(shown):
    body = {"model": "m", "prompt": "abcdefghijklmnopqrstuvwxyz", "max_tokens": 3}
    for _ in range(2):
        assert shown.post("/v1/completions", body).status_code == 200
    told = shown.get("/v1/danlu/engine").json()["models"][0]
    blocks = told["blocks"]
    assert told["state"] == "ready" and told["running"] == told["waiting"] == 0 and told["steps"] > 0
    assert blocks["used"] + blocks["cached"] + blocks["free"] == blocks["total"] == len(blocks["map"])
    assert told["prefix"]["hit_tokens"] > 0 and told["tokens"]["generated"] >= 2 and told["requests"] == []
    assert "abcdefgh" not in json.dumps(told)


def test_artefacts_are_told_with_card_and_ancestors(shown, live):
    told = shown.get("/v1/danlu/artefacts").json()["data"][0]
    assert told["card"] == "# A card\n" and told["kind"] == "model" and told["licences"] == ["CC0-1.0"]
    assert (
        told["tree"][0]["depth"] == 0 and told["tree"][0]["id"] == told["id"] and told["metrics"]["heldout_bits_per_byte"] == 8.0
    )
    bare = live.get("/v1/danlu/artefacts").json()["data"][0]
    assert bare["model"] == "speaker" and bare["tree"] == [] and bare["kind"] is None


def test_a_receipt_is_shown_with_its_model(shown):
    told = shown.get("/v1/models/m").json()["danlu"]
    assert told["receipt"] == {"perplexity_ratio": {"value": 1.01}, "text": ["notes.txt"]} and told["parameters"] > 1000
    assert "receipt" not in shown.get("/v1/models").json()["data"][0]["danlu"]


def test_numbers_of_the_page_are_checked(shown):
    for points in ("1", "x", "100000"):
        answer = shown.get(f"/v1/danlu/runs/first?points={points}")
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "points"
