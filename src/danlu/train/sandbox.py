"""Runs Python that nobody vouches for, such as a model's answers, and says whether it passed its tests.

Each program gets an interpreter, a session and an empty folder of its own, no environment, no inherited file, and bounds on
time, memory, files and output; at the end its whole process group is killed. What keeps it in is told by the form:

- bubblewrap: namespaces without network, made by `bwrap`, and all of the next form that the kernel has;
- landlock: the kernel refuses every file but Python's own (Landlock) and every socket, further process or signal (seccomp);
- rlimits: whatever of these this system has, perhaps bounds alone. Then a program can read and change all that its user can,
  and reach the network. So this form is taken only by name.

Not stopped by any form: a program that finds out the harness's secret, or whose objects claim to equal everything, and so passes
tests that it should fail; learning whether a file exists (landlock); faults of the kernel. See docs/decisions/0184.
"""

import contextlib
import functools
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from danlu.core.errors import BadSettings
from danlu.core.settings import Settings

Form = Literal["bubblewrap", "landlock", "rlimits"]
Reason = Literal["passed", "failed", "exited", "memory", "time", "output", "files", "killed"]

_JAIL = Path(__file__).with_name("jail.py")
_PYTHON = ["-s", "-S", "-P", "-B", "-X", "utf8"]
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
"""All of it: an order of sets that changed from run to run would change verdicts."""
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/dev/null", "/dev/zero", "/dev/urandom")
_BOX = "/box"
"""Where a program's own folder lies in bubblewrap's namespace."""
_LOOK_S = 0.02
"""How long to wait for output before looking at the clock."""
_MOST_FILES = 200


class Bounds(Settings):
    """What a program may use."""

    cpu_s: int = Field(5, ge=1)
    """Processor time, seconds. It, not the clock, ends a program that computes too long, so verdicts do not depend on what else
    the machine does."""
    wall_s: float = Field(20.0, gt=0)
    """Time by the clock, seconds, for programs that wait."""
    memory_mb: int = Field(512, ge=64)
    """Address space, megabytes, the interpreter's own some 30 included."""
    file_mb: int = Field(0, ge=0)
    """Size of a file that it may write in its own folder, and of all of them, megabytes; 0: no file at all."""
    output_kb: int = Field(64, ge=1)
    """What it may print to each of its two outputs, kilobytes."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    reason: Reason
    passed: int
    """Tests that passed."""
    note: str
    """The first exception, or what was exceeded."""
    stdout: str
    stderr: str
    seconds: float
    """Of the processor."""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end and passed every test."""
        return self.reason == "passed"


@dataclass(frozen=True)
class Program:
    """What to run: a program, then tests in the same namespace, one by one."""

    text: str
    tests: tuple[str, ...] = ()
    input: str = ""
    """What it reads from its standard input."""


@dataclass(frozen=True)
class Sandbox:
    """Runs programs in one form; `open_sandbox` picks one that this machine has."""

    form: Form
    bounds: Bounds

    def run_all(self, programs: Sequence[Program], at_once: int | None = None) -> list[Outcome]:
        """Each program by itself, several at once."""
        with ThreadPoolExecutor(at_once or os.cpu_count()) as pool:
            return list(pool.map(self.run, programs))

    def run(self, program: Program) -> Outcome:
        """One program, to its end or to the end of what it may use; nothing of it is left."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_own_folder())
            spec = stack.enter_context(tempfile.TemporaryFile())
            secret = secrets.token_hex(16)
            spec.write(json.dumps(self._spec(program, secret, folder)).encode("utf-8", "surrogatepass"))
            spec.seek(0)
            verdict, theirs = os.pipe()
            started = time.monotonic()
            try:
                process = subprocess.Popen(
                    command(self.form, folder, theirs, self.bounds), stdin=spec, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    cwd=folder, env=_ENVIRONMENT, pass_fds=(theirs,), start_new_session=True,
                )  # fmt: skip
            except BaseException:
                os.close(verdict)
                raise
            finally:
                os.close(theirs)
            with process, open(verdict, "rb", buffering=0) as told:
                try:
                    heard, exceeded = self._listen(process, told, folder, started)
                finally:
                    used_s = _end(process)
            if not exceeded and not heard["verdict"] and used_s > 0.9 * self.bounds.cpu_s:
                exceeded = "time"  # the system ended it
            return _judged(heard, exceeded, process.returncode, secret, len(program.tests), used_s)

    def _spec(self, program: Program, secret: str, folder: Path) -> dict[str, object]:
        bounds, own = self.bounds, _BOX if self.form == "bubblewrap" else str(folder)
        return {
            "program": program.text, "tests": list(program.tests), "input": program.input, "secret": secret,
            "cpu_s": bounds.cpu_s, "memory_bytes": bounds.memory_mb << 20, "file_bytes": bounds.file_mb << 20,
            "readable": [*_SYSTEM, *_library()], "writable": [own] if bounds.file_mb else [],
            "need": [] if self.form == "rlimits" else ["landlock", "seccomp"] if self.form == "landlock" else ["seccomp"],
        }  # fmt: skip

    def _listen(
        self, process: "subprocess.Popen[bytes]", told: IO[bytes], folder: Path, started: float
    ) -> tuple[dict[str, bytes], Reason | None]:
        """What it said until it ended or had to be ended, and why it had to be."""
        most, heard = self.bounds.output_kb << 10, {"stdout": b"", "stderr": b"", "verdict": b""}
        assert process.stdout and process.stderr
        with selectors.DefaultSelector() as waiting:
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr), ("verdict", told)):
                os.set_blocking(pipe.fileno(), False)
                waiting.register(pipe, selectors.EVENT_READ, name)
            while True:
                over = _over(process)  # looked at first: what was said before the end is then read below
                for key, _ in waiting.select(0 if over else _LOOK_S):
                    part = os.read(key.fd, 1 << 16)
                    heard[key.data] = (heard[key.data] + part)[: most + 1]
                    if not part:
                        waiting.unregister(key.fileobj)
                if max(map(len, heard.values())) > most:
                    return heard, "output"
                if over:
                    return heard, None
                if time.monotonic() - started > self.bounds.wall_s:
                    return heard, "time"
                if self.bounds.file_mb and not _fits(folder, self.bounds.file_mb << 20):
                    return heard, "files"


def open_sandbox(form: Form | Literal["auto"] = "auto", bounds: Bounds | None = None) -> Sandbox:
    """A sandbox in a form that this machine has. Raises BadSettings where it lacks what was asked for, or has no safe form."""
    return Sandbox(_pick(form), bounds or Bounds())


def _pick(form: Form | Literal["auto"]) -> Form:
    if form == "auto":
        found = "bubblewrap" if _bubblewrap_works() else "landlock" if not _why_no_landlock() else None
        if found is None:
            raise BadSettings(
                f"programs that a model wrote can be locked in by bubblewrap, which is not installed or not allowed here, or by "
                f"the kernel, but {_why_no_landlock()}. Install bubblewrap (apt install bubblewrap), or say `rlimits` by name "
                f"(--rewards code:sandbox=rlimits): then they can read and change all that you can."
            )
        return found  # type: ignore[return-value]  # one of the two
    if form == "bubblewrap" and not _bubblewrap_works():
        raise BadSettings("bubblewrap was asked for, but `bwrap` is not installed, or may make no namespaces here.")
    if form == "landlock" and (why := _why_no_landlock()):
        raise BadSettings(f"the form landlock was asked for, but {why}.")
    return form


def command(form: Form, folder: Path, verdict: int, bounds: Bounds) -> list[str]:
    """The command line that runs the jail's text."""
    inner = [sys.executable, *_PYTHON, "-c", _jail(), str(verdict)]
    if form != "bubblewrap":
        return inner
    outside = [part for path in (*_SYSTEM[:5], *_library(), str(Path(sys.executable).resolve().parent), sys.prefix)
               for part in ("--ro-bind-try", path, path)]  # fmt: skip
    own = ["--bind" if bounds.file_mb else "--ro-bind", str(folder), _BOX, "--chdir", _BOX]
    return [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
            "--hostname", "sandbox", *outside, "--dev", "/dev", *own, "--", *inner]  # fmt: skip


@functools.cache
def _jail() -> str:
    return _JAIL.read_text(encoding="utf-8")


@functools.cache
def _library() -> tuple[str, ...]:
    """Where Python's own modules lie."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys([paths["stdlib"], paths["platstdlib"], str(Path(sys.base_prefix) / "lib")]))


@functools.cache
def _bubblewrap_works() -> bool:
    if not shutil.which("bwrap"):
        return False
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False).returncode == 0


@functools.cache
def _why_no_landlock() -> str:
    """Why the kernel cannot lock a program in; empty where it can. Tried, not guessed."""
    try:
        Sandbox("landlock", Bounds()).run(Program(""))
    except BadSettings as error:
        return str(error.args[0])
    return ""


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="danlu-sandbox-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, onerror=_opened)


def _opened(act: object, path: str, _: object) -> None:
    """A folder that was closed to its owner is opened, then removed."""
    with contextlib.suppress(OSError):
        for place in (Path(path).parent, Path(path)):
            place.chmod(0o700)
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def _over(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has ended; its number stays taken until it is waited for, so that its group can be killed safely."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: "subprocess.Popen[bytes]") -> float:
    """Kill it and all of its group; the processor seconds that it took."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is not None:
        return 0.0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _fits(folder: Path, most: int) -> bool:
    """Whether all that it wrote is within bounds."""
    total = 0
    for count, (place, _, names) in enumerate(os.walk(folder)):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).lstat().st_blocks * 512
        if total > most or count + len(names) > _MOST_FILES:
            return False
    return True


def _judged(heard: dict[str, bytes], exceeded: Reason | None, code: int, secret: str, tests: int, seconds: float) -> Outcome:
    text = {name: part.decode("utf-8", "replace") for name, part in heard.items()}
    said = text["verdict"].rpartition(f"{secret} ")
    kind, _, rest = said[2].partition(" ") if said[1] else ("", "", "")
    if kind == "unjailed":
        raise BadSettings(rest)
    count, _, note = rest.partition(" ")
    reason: Reason
    if exceeded:
        reason, passed, note = exceeded, 0, f"more {exceeded} than allowed"
    elif kind in ("passed", "failed", "exited", "memory") and count.isdigit():
        reason, passed = kind, int(count)  # type: ignore[assignment]  # one of the four
        if reason == "passed" and passed != tests:
            reason = "failed"
    else:
        reason, passed, note = "killed", 0, f"it ended without a verdict ({code})"
    return Outcome(reason, passed, note, text["stdout"], text["stderr"], seconds)
