"""Nothing gets out of the sandbox, nothing of a program stays, and a verdict says what happened."""

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from danlu.core.errors import BadSettings
from danlu.train import sandbox
from danlu.train.sandbox import Bounds, Program, Sandbox, command, open_sandbox

LOCKED = [form for form, works in (
    ("landlock", not sandbox._why_no_landlock()), ("bubblewrap", sandbox._bubblewrap_works())
) if works]  # fmt: skip
NO_LOCK = "neither Landlock nor bubblewrap can lock programs in on this machine"
FORMS = [pytest.param(form, marks=[] if form in LOCKED else pytest.mark.skip(reason=f"{form} does not work on this machine"))
         for form in ("landlock", "bubblewrap")]  # fmt: skip


def left_over():
    """Processes below this one that run the jail's text."""
    found, parents = set(), {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            found |= {int(place.name)} if b"locks itself in, then runs" in (place / "cmdline").read_bytes() else set()
    return {one for one in found if os.getpid() in ancestors(one, parents) or parents[one] == 1}


def ancestors(process, parents):
    while process in parents:
        process = parents[process]
        yield process


def folders():
    return set(Path(sandbox.tempfile.gettempdir()).glob("danlu-sandbox-*"))


@pytest.fixture(params=FORMS)
def locked(request, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path_factory.mktemp("own")))  # others make theirs meanwhile
    before = folders()
    yield Sandbox(request.param, Bounds(cpu_s=1, wall_s=10))
    deadline = time.monotonic() + 5
    while left_over() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left_over()
    assert folders() <= before


def test_a_program_is_run_then_its_tests_one_by_one(locked):
    done = locked.run(Program("def add(a, b):\n    return a + b", ("assert add(2, 3) == 5", "assert add(2, 3) == 6", "1 / 0")))
    assert (done.reason, done.passed, done.note) == ("failed", 1, "AssertionError: ")
    done = locked.run(Program("print('said'); import sys; print('told', file=sys.stderr)", ("assert True",)))
    assert done.ok and (done.passed, done.stdout, done.stderr) == (1, "said\n", "told\n")
    assert locked.run(Program("print(input() + '炉')", input="丹\n")).stdout == "丹炉\n"
    assert not locked.run(Program("x = (", ())).ok


@pytest.mark.parametrize(("text", "reason"), [
    ("while True: pass", "time"), ("a = [0] * 10**9", "memory"), ("a = []\nwhile True: a.append(bytearray(1 << 20))", "memory"),
    ("while True: print('x' * 1000)", "output"), ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "output"),
    ("raise SystemExit(0)", "exited"), ("import os; os._exit(0)", "killed"), ("import ctypes; ctypes.string_at(0)", "killed"),
    ("def f(): f()\nf()", "failed"), ("import time; time.sleep(99)", "time"),
])  # fmt: skip
def test_what_takes_too_much_or_leaves_is_ended_and_said(text, reason):
    if not LOCKED:
        pytest.skip(NO_LOCK)
    bounds = Bounds(cpu_s=1, wall_s=2 if "sleep" in text else 30, memory_mb=128)
    done = Sandbox(LOCKED[0], bounds).run(Program(text, ("assert True",)))
    assert (done.reason, done.passed) == (reason, 0) and not done.ok
    assert len(done.stdout) <= (64 << 10) + 1 and not left_over()


def outside(folder):
    return {
        "read": f"open({str(folder / 'secret')!r}).read()", "list": f"__import__('os').listdir({str(folder)!r})",
        "write": f"open({str(folder / 'new')!r}, 'w')", "append": f"open({str(folder / 'secret')!r}, 'a')",
        "remove": f"__import__('os').remove({str(folder / 'secret')!r})", "mode": f"__import__('os').chmod({str(folder)!r}, 0)",
        "truncate": f"__import__('os').truncate({str(folder / 'secret')!r}, 0)", "proc": "open('/proc/self/environ')",
        "passwords": "open('/etc/passwd').read()", "own": "open('mine', 'w')",
        "rename": f"__import__('os').rename({str(folder / 'secret')!r}, 'x')", "fork": "__import__('os').fork()",
        "spawn": "__import__('subprocess').run(['true'])", "shell": "__import__('os').execv('/bin/sh', ['sh'])",
        "signal": "__import__('os').kill(__import__('os').getppid(), 0)", "socket": "__import__('socket').socket()",
        "limits": "__import__('resource').setrlimit(__import__('resource').RLIMIT_CPU, (99, 99))",
    }  # fmt: skip


@pytest.mark.parametrize("way", outside(Path()))
def test_what_reaches_outside_is_refused(locked, tmp_path, way):
    (tmp_path / "secret").write_text("kept")
    done = locked.run(Program(outside(tmp_path)[way]))
    assert done.reason == "failed" and done.note.split(":")[0] in (
        "PermissionError",
        "FileNotFoundError",
        "OSError",
        "ValueError",
    )
    assert [one.name for one in tmp_path.iterdir()] == ["secret"] and (tmp_path / "secret").read_text() == "kept"


def test_no_server_on_this_machine_is_reached(locked):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = locked.run(Program(f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)"))
        with pytest.raises(TimeoutError):
            server.accept()
    assert done.reason == "failed"


def test_nothing_of_ours_is_inherited(locked, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_OF_OURS", "kept")
    with open(tmp_path / "ours", "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        text = ("import os\nprint(sorted(os.environ))\nfound = []\nfor one in range(3, 64):\n"
                "    try: os.fstat(one); found.append(one)\n    except OSError: pass\nprint(len(found))")  # fmt: skip
        done = locked.run(Program(text))
    assert done.stdout.replace(", 'PWD'", "") == "['LC_ALL', 'PYTHONHASHSEED']\n1\n"  # PWD is bubblewrap's own


def test_a_fork_bomb_is_over_at_once_and_leaves_no_process(locked):
    before = time.monotonic()
    done = locked.run(Program("import os\nwhile True:\n    try: os.fork()\n    except OSError as error: print(error); break"))
    assert "not permitted" in done.stdout and time.monotonic() - before < 10


def test_threads_are_allowed_and_end_with_the_program(locked):
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\nprint(threading.active_count())"
    done = locked.run(Program(text))
    assert done.ok and done.stdout == "2\n"


@pytest.mark.skipif(not LOCKED, reason=NO_LOCK)
def test_files_are_written_on_demand_only_and_within_bounds():
    writing = Sandbox(LOCKED[-1], Bounds(file_mb=1))
    assert writing.run(Program("open('a', 'w').write('x'); assert open('a').read() == 'x'")).ok
    assert writing.run(Program("open('a', 'wb').write(b'x' * (3 << 20))")).reason == "failed"
    flood = "import time\nfor at in range(400): open(str(at), 'w').write('x' * 100)\ntime.sleep(9)"
    assert writing.run(Program(flood)).reason == "files"
    closed = "import os; os.makedirs('a/b'); open('a/b/c', 'w').write('x')"
    assert writing.run(Program(closed)).ok
    assert writing.run(Program("import os; os.symlink('/etc', 'e'); open('e/passwd')")).reason == "failed"


@pytest.mark.skipif(not LOCKED, reason=NO_LOCK)
def test_many_programs_run_side_by_side_from_many_threads_and_verdicts_repeat():
    box, answers = Sandbox(LOCKED[0], Bounds()), [Program(f"print({{'a', 'b', 'c'}}, {at})") for at in range(6)]
    first: list = []
    other = threading.Thread(target=lambda: first.extend(box.run_all(answers, 2)))
    other.start()
    second = box.run_all(answers, 2)
    other.join()
    assert [one.stdout for one in first] == [one.stdout for one in second]
    assert all(one.stdout.endswith(f"{at}\n") for at, one in enumerate(second))


def test_a_verdict_without_the_secret_is_none():
    if not LOCKED:
        pytest.skip(NO_LOCK)
    text = "import os, sys\nfor one in range(3, 9):\n    try: os.write(one, b'passed 1 ')\n    except OSError: pass\nos._exit(0)"
    done = Sandbox(LOCKED[0], Bounds()).run(Program(text, ("assert False",)))
    assert (done.reason, done.passed) == ("killed", 0)


def test_the_weak_form_is_taken_by_name_only(monkeypatch):
    monkeypatch.setattr(sandbox, "_bubblewrap_works", lambda: False)
    monkeypatch.setattr(sandbox, "_why_no_landlock", lambda: "this kernel has no Landlock")
    for form in ("auto", "bubblewrap", "landlock"):
        with pytest.raises(BadSettings, match=r"rlimits` by name|bubblewrap was asked for|this kernel has no Landlock"):
            open_sandbox(form)
    weak = open_sandbox("rlimits", Bounds(cpu_s=1))
    assert weak.run(Program("x = 1", ("assert x == 1",))).ok
    assert weak.run(Program("while True: pass")).reason == "time"


def test_the_command_line_of_bubblewrap_shuts_everything(tmp_path):
    words = command("bubblewrap", tmp_path, 7, Bounds())
    outer = words[: words.index("--")]
    assert outer[0].endswith("bwrap") and {"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop"} <= set(outer)
    assert (
        "--share-net" not in outer and "--bind" not in outer and "--bind" in command("bubblewrap", tmp_path, 7, Bounds(file_mb=1))
    )
    bound = [outer[at + 1] for at, word in enumerate(outer) if word in ("--ro-bind-try", "--bind")]
    assert not {"/", "/home", "/root", "/etc", str(Path.home())} & set(bound)
    assert words[-1] == "7" and words[words.index("--") + 1] == sys.executable


def test_a_lock_that_does_not_hold_is_no_verdict(monkeypatch):
    line = "    version = libc.syscall("
    text = sandbox._JAIL.read_text().replace(line, f"    raise Unjailed('no such lock')\n{line}")
    monkeypatch.setattr(sandbox, "_jail", lambda: text)
    with pytest.raises(BadSettings, match="no such lock"):
        Sandbox("landlock", Bounds()).run(Program("x = 1"))
    assert Sandbox("rlimits", Bounds()).run(Program("x = 1")).ok
