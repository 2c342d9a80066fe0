"""Templates rendered in a process of their own, which has little memory and no files and is ended when it takes too long.

A template is a program that came with a model. Loops, powers and repeated text can keep the interpreter inside one C call
for ever, where no thread can be stopped and no counter counts: only the end of a process ends them for certain.
"""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, takewhile
from typing import Any

from danlu.core.errors import BadInput
from danlu.tokenizer import template as language

DEADLINE_S = 5.0
"""A conversation is rendered within milliseconds."""
MEMORY_BYTES = 1 << 30
"""Address space of the process, where the system can limit it (Linux; macOS ignores it)."""
MOST_TEMPLATE = 1 << 20
"""The longest template read, in characters; long ones in use have 20 thousand."""
MOST_AT_ONCE = 32_000_000
"""Characters of conversations rendered for one question, about; more are asked for in parts, so that the deadline is fair."""
_START = "from danlu.tokenizer.sandbox import work; work()"
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SYSTEMROOT", "LANG", "TZ", "LD_LIBRARY_PATH")
"""Of the environment only this: keys and passwords stay here."""


class Sandbox:
    """The process, started when first needed and again after it was ended; one template at a time."""

    def __init__(self, deadline_s: float = DEADLINE_S, memory_bytes: int = MEMORY_BYTES):
        self.deadline_s, self.memory_bytes = deadline_s, memory_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def draw(self, template: str, variables: Sequence[Mapping[str, Any]]) -> list[str]:
        """The texts of a template under several sets of variables, plain JSON values all.

        Raises BadInput when the template refuses, fails, grows too large or takes longer than deadline_s for all of them.
        """
        found: list[str] = self._ask({"template": template, "variables": list(variables)})
        return found

    def draw_beginnings(
        self, template: str, conversations: Sequence[Mapping[str, Any]], beginnings: Sequence[tuple[int, int, Mapping[str, Any]]]
    ) -> list[str]:
        """The texts of beginnings: the number of a conversation (a set of variables), how many of its messages, other variables.

        Equal to `draw` of each, but conversations go over once and texts come back as what is new in them, so that the
        beginnings of a long conversation cost little. Raises BadInput as `draw` does.
        """
        most = MOST_AT_ONCE * len(conversations[0]["messages"]) / max(len(json.dumps(conversations[0])), 1)
        texts: list[str] = []
        at = 0
        while at < len(beginnings):
            sizes = accumulate(size for _, size, _ in beginnings[at:])
            several = max(1, sum(1 for _ in takewhile(lambda messages: messages <= most, sizes)))
            asked = {"template": template, "conversations": list(conversations), "beginnings": beginnings[at : at + several]}
            for place, (kept, rest) in enumerate(self._ask(asked)):
                texts.append(texts[-1][:kept] + rest if place and kept else rest)
            at += several
        return texts

    def names(self, template: str) -> list[str]:
        """Variables that a template reads."""
        found: list[str] = self._ask({"template": template})
        return found

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, request: dict[str, Any]) -> Any:
        if len(request["template"]) > MOST_TEMPLATE:
            raise BadInput(f"the chat template has {len(request['template']):,} characters; at most {MOST_TEMPLATE:,} are read.")
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            answer = self._exchange(line)
        if answer is None:
            raise BadInput(
                f"the chat template was stopped: it ran longer than {self.deadline_s:g} s or took more memory than it may have. "
                f"Look for endless loops in chat_template.jinja."
            )
        if "error" in answer:
            raise BadInput(answer["error"])
        return answer["result"]

    def _exchange(self, line: bytes) -> dict[str, Any] | None:
        """One question, one answer; None when the process had to be ended."""
        process = self._running()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = _line(process, self.deadline_s)
        except BrokenPipeError:
            answer = b""
        if not answer.endswith(b"\n"):
            self._end()
            return None
        found: dict[str, Any] = json.loads(answer)
        if found.get("exhausted"):
            self._end()
        return found

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process and (self._owner != os.getpid() or self._process.poll() is not None):
            self._end()
        if self._process is None:
            kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
            path = os.pathsep.join([part for part in sys.path if part])
            process = subprocess.Popen([sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       start_new_session=True,  # Ctrl-C is for the one who asks
                                       env={**kept, "PYTHONPATH": path, "PYTHONUTF8": "1",
                                            "DANLU_SANDBOX_BYTES": str(self.memory_bytes)})  # fmt: skip
            self._process, self._owner = process, os.getpid()
            assert process.stdout
            if process.stdout.readline() != b"ready\n":
                self._end()
                raise RuntimeError("the process that renders chat templates does not start")
            atexit.register(process.kill)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process and self._owner == os.getpid():  # after a fork it is the parent's
            atexit.unregister(process.kill)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def _line(process: "subprocess.Popen[bytes]", deadline_s: float) -> bytes:
    """One line from a process; what there is of it when it ends or takes too long."""
    assert process.stdout
    if not hasattr(select, "poll"):  # Windows waits for no pipe: there a thread looks at the clock
        overdue = threading.Timer(deadline_s, process.kill)
        overdue.start()
        try:
            return process.stdout.readline()
        finally:
            overdue.cancel()
    ready = select.poll()
    ready.register(process.stdout, select.POLLIN)
    answer, last = b"", time.monotonic() + deadline_s
    while not answer.endswith(b"\n") and (left := last - time.monotonic()) > 0 and ready.poll(left * 1000):
        part = os.read(process.stdout.fileno(), 1 << 16)
        if not part:
            break
        answer += part
    return answer


def work() -> None:
    """The other process: one question a line on stdin, one answer a line on stdout, until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    _confine(int(os.environ["DANLU_SANDBOX_BYTES"]))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(_answer(line)) + "\n")
        answers.flush()


def _answer(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if "beginnings" in request:
            return {"result": list(_beginnings(**request))}
        if "variables" not in request:
            return {"result": language.names(request["template"])}
        return {"result": [language.draw(request["template"], variables) for variables in request["variables"]]}
    except MemoryError:
        return {"error": "the chat template asks for more memory than it may have.", "exhausted": True}
    except RecursionError:
        return {"error": "the chat template calls itself without end."}
    except Exception as error:  # a template may fail in any way that Python can
        return {"error": f"the chat template cannot render this conversation: {error}."}


def _beginnings(template: str, conversations: list[Any], beginnings: list[Any]) -> Iterator[tuple[int, str]]:
    """Texts as how many characters each begins with of the one before it, and the rest."""
    before = ""
    for number, size, more in beginnings:
        said = conversations[number]
        text = language.draw(template, {**said, **more, "messages": said["messages"][:size]})
        same = shared_beginning(before, text)
        yield same, text[same:]
        before = text


def shared_beginning(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many characters two texts, or tokens two lists, begin with alike.

    >>> shared_beginning("furnace", "furs"), shared_beginning("", "a"), shared_beginning("ab", "ab")
    (3, 0, 2)
    """
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:  # all below low agrees, nothing above high does
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _confine(memory_bytes: int) -> None:
    """Little memory, no file to write, no crash file."""
    try:
        import resource
    except ModuleNotFoundError:  # no such limits on this system; time is limited all the same
        return
    for kind, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS refuses limits of address space
            continue


SHARED = Sandbox()
"""The process that this program's templates share."""
