"""The report of a run tells what the event log holds, once each, and nothing in a sample can become markup."""

import json
import math

import pytest

from danlu.core import log
from danlu.core.lineage import Input
from danlu.train import report


def _run(folder, steps=7):
    with log.listening(log.JsonLines(folder / "events.jsonl")):
        log.emit("plan", reasons=["width 96: because"])
        for step in range(1, steps + 1):
            log.emit("step", step=step, tokens=step * 100, loss=5.0 - step / 10, grad_norm=1.5, lr=1e-3, tokens_per_s=50.0 + step,
                     seconds=step * 2.0, memory_bytes=1_000_000 + step, mfu=0.25)  # fmt: skip
        log.emit("heldout", step=3, tokens=300, loss=4.75, bits_per_byte=2.5, seconds=6.0)
        log.emit("heldout", step=7, tokens=700, loss=4.5, bits_per_byte=2.25, seconds=14.0)
        log.emit("sample", step=7, prompt="def <script>alert(1)</script>", text=" 丹炉")
        log.emit("guard", step=5, reason="loss is nan", action="skip", culprit="poison.txt line 3")
    return folder


def test_the_headline_is_what_was_measured(tmp_path):
    figures = report.headline(report.by_kind(_run(tmp_path)))
    assert figures["steps"] == 7 and figures["tokens"] == 700 and figures["seconds"] == 14.0
    assert figures["bits_per_byte"] == 2.25 and figures["best_step"] == 7
    assert figures["tokens_per_s"] == 54.0, "the median of 51..57"
    assert figures["memory_bytes"] == 1_000_007


def test_a_step_done_again_after_a_resume_counts_once(tmp_path):
    _run(tmp_path)
    with log.listening(log.JsonLines(tmp_path / "events.jsonl")):
        log.emit("step", step=7, tokens=700, loss=1.25, seconds=15.0)
    steps = report.by_kind(tmp_path)["step"]
    assert [event["step"] for event in steps] == list(range(1, 8))
    assert steps[-1]["loss"] == 1.25


def test_the_page_holds_samples_guard_ledger_and_lineage_but_no_live_markup(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    ledger = {"read": 9, "sources": {"notes": {"kept": {"documents": 7}, "dropped": {"documents": 2}}}}
    report.write(_run(tmp_path / "a.run"), folder, ledger=ledger, inputs=[Input(role="dataset", id="abc123", path="data")])
    html = (folder / "report.html").read_text(encoding="utf-8")
    for part in ("丹炉", "poison.txt line 3", "abc123", "sources, notes", "dropped", "width 96: because", "<svg"):
        assert part in html
    assert "<script" not in html
    assert " src=" not in html and "@import" not in html and "url(http" not in html, "nothing outside the page"
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["bits_per_byte"] == 2.25


def test_a_run_without_events_still_has_a_page(tmp_path):
    assert report.write(tmp_path, tmp_path) == {}
    assert "Too few steps" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_is_not_finite_does_not_spoil_the_curve():
    assert report.smooth([4.0, math.nan, 4.0]) == pytest.approx([4.0, 4.0, 4.0])
