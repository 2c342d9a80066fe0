"""What a run tells reaches every sink, and only while it listens."""

import io
import json

import pytest

from danlu.core import log


class Ear:
    def __init__(self):
        self.heard, self.closed = [], False

    def event(self, kind, fields):
        self.heard.append((kind, fields))

    def close(self):
        self.closed = True


def test_every_sink_hears_everything_while_it_listens():
    one, two = Ear(), Ear()
    with log.listening(one, two):
        log.say("a")
        log.warn("b")
        log.emit("step", step=3, loss=0.5)
    log.say("too late")
    assert one.heard == two.heard == [("say", {"text": "a"}), ("warn", {"text": "b"}), ("step", {"step": 3, "loss": 0.5})]
    assert one.closed and two.closed


def test_an_error_inside_still_closes_and_detaches_the_sinks():
    ear = Ear()
    with pytest.raises(ZeroDivisionError), log.listening(ear):
        raise ZeroDivisionError
    log.say("nobody hears")
    assert ear.closed and ear.heard == []


def test_progress_begins_and_ends_whatever_happens_between():
    ear = Ear()
    with log.listening(ear), log.progress("read", total=7, unit="documents") as bar:
        for _ in range(7):
            bar.advance(1)
    kinds = [fields["finished"] for kind, fields in ear.heard if kind == "progress"]
    assert kinds[0] is False and kinds[-1] is True
    assert ear.heard[-1][1]["done"] == 7 == ear.heard[-1][1]["total"]


def test_the_console_writes_plain_lines_where_nobody_watches():
    stream = io.StringIO()
    with log.listening(log.Console(stream, every_s=0)):
        log.say("丹 [bold]炉[/bold]")
        log.warn("hot")
        with log.progress("read", total=5, unit="documents") as bar:
            bar.advance(5)
    text = stream.getvalue()
    assert text.startswith("丹 [bold]炉[/bold]\nwarning: hot\n")
    assert "read: 5/5 documents" in text and "\r" not in text and "\x1b" not in text


def test_the_console_on_a_terminal_shows_foreign_markup_as_text():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with log.listening(log.Console(stream)), log.progress("read", total=5, unit="documents") as bar:
        log.say("[red]not red[/red]")
        bar.advance(5)
    assert "[red]not red[/red]" in stream.getvalue()
    assert "read: 5/5 documents" in stream.getvalue()


def test_json_lines_read_back_and_a_line_cut_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "run" / "events.jsonl"
    for _ in range(2):  # a resumed run appends
        with log.listening(log.JsonLines(path)), log.progress("not kept"):
            log.emit("step", step=2, loss=3.5, path=tmp_path)
            log.say("火")
    events = list(log.read_events(path))
    assert [event["kind"] for event in events] == ["step", "say"] * 2
    assert events[0]["loss"] == 3.5 and events[0]["path"] == str(tmp_path) and events[1]["text"] == "火"
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"kind": "st')
    assert list(log.read_events(path)) == events


def test_a_log_goes_on_behind_its_last_whole_line(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "step", "step": 1}\n{"kind": "st')
    with log.listening(log.JsonLines(path)):
        log.emit("step", step=2)
    assert [event["step"] for event in log.read_events(path)] == [1, 2]


def test_nobody_hears_in_silence(tmp_path):
    path = tmp_path / "events.jsonl"
    with log.listening(log.JsonLines(path)):
        with log.silent():
            log.say("unheard")
        log.say("heard")
    assert [event["text"] for event in log.read_events(path)] == ["heard"]


def test_a_line_broken_in_the_middle_of_a_log_is_an_error(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"kind": "st\n{"kind": "say"}\n')
    with pytest.raises(json.JSONDecodeError):
        list(log.read_events(tmp_path / "events.jsonl"))


def test_a_log_that_does_not_exist_has_no_events(tmp_path):
    assert list(log.read_events(tmp_path / "none.jsonl")) == []
