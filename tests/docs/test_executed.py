"""The examples marked `<!-- run -->` in the docs do what the docs say: they are typed into a fresh folder, in order.

The pages of a reader share one folder, as for someone who follows the tutorials; a small text of ours stands in `notes/`, and
each training budget in minutes becomes a number of tokens that takes seconds. In ```console blocks, `$ ` begins a command and the
lines below it are its output, where `...` stands for any text; output that is not shown is not compared.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAIRS, ROOT, TUTORIALS, Block, blocks
from tests.docs.toy import write_notes

ALIGNED = ("instruct", "adapters", "preferences", "reinforcement", "distil", "judging", "feedback", "sample")
"""Tutorials that a reader of the first three can follow without the others."""
READERS = {
    "model": [Path("install.md"), *(Path("tutorials") / f"{name}.md" for name in TUTORIALS if name not in ALIGNED)],
    "assistant": [Path("tutorials") / f"{name}.md" for name in ("prepare", "tokenizer", "pretrain", *ALIGNED)],
}
"""Who reads which pages, each at a desk of their own."""
READERS["model"] += [page for page in PAIRS if page not in (*READERS["model"], *READERS["assistant"])]
BUDGET = "200k tokens"


@pytest.fixture
def desk(tmp_path_factory):
    """A folder like a reader's: some notes in two languages."""
    folder = tmp_path_factory.mktemp("reader")
    write_notes(folder / "notes")
    return folder


def marked(reader):
    """Every marked block of a reader's English pages in reading order; the Chinese ones are equal by law."""
    more = [ROOT / "CONTRIBUTING.md"] if reader == "model" else []
    for path in [*(DOCS / "en" / page for page in READERS[reader]), *more]:
        found = [block for block in blocks(path.read_text(encoding="utf-8")) if block.run]
        if path.parent.name == "atlas":  # its Python goes on from one block to the next
            found = [replace(found[0], text="\n".join(block.text for block in found))] if found else []
        for block in found:
            yield path, block


@pytest.mark.parametrize("reader", READERS)
def test_the_examples_do_what_the_docs_say(desk, reader):
    found = list(marked(reader))
    assert len(found) > 10
    for path, block in found:
        run(desk, f"{path.relative_to(ROOT)}:{block.line}", block)


def run(desk: Path, place: str, block: Block) -> None:
    if block.kind == "python":
        done = call([sys.executable, "-"], desk, input=block.text)
        assert done.returncode == 0, f"{place}\n{done.stderr[-3000:]}"
    elif block.kind == "yaml":
        name = block.text.partition("\n")[0].removeprefix("# ").strip()
        (desk / name).write_text(block.text, encoding="utf-8")
    else:
        assert block.kind == "console", f"{place}: mark console, python or yaml blocks only"
        for command, shown in commands(block.text):
            done = call(["bash", "-c", hasten(command)], desk)
            assert done.returncode == 0, f"{place}: {command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
            if shown:
                assert fits(shown, done.stdout), f"{place}: {command}\nexpected\n{shown}\nfound\n{done.stdout}"


def call(command: list[str], desk: Path, **more) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, timeout=300, **more)


def commands(text: str):
    """(command, shown output) pairs of a console block; a command goes on while its line ends in a backslash."""
    command, shown, open_ = "", [], False
    for line in text.splitlines():
        if line.startswith("$ ") or open_:
            if line.startswith("$ ") and command and not open_:
                yield command, "\n".join(shown)
                command, shown = "", []
            command += line.removeprefix("$ ") + "\n"
            open_ = line.endswith("\\")
        else:
            shown.append(line)
    if command:
        yield command, "\n".join(shown)


def hasten(command: str) -> str:
    """The same command with its training budget cut to seconds of work."""
    return re.sub(r"(--budget[ =])\d+[mh]\b", rf"\g<1>'{BUDGET}'", command)


def fits(shown: str, found: str) -> bool:
    """Whether output looks as shown; `...` stands for any text, spaces at line ends do not count."""
    pattern = ".*?".join(re.escape(part.strip()) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in found.strip().splitlines()), re.DOTALL) is not None


def test_the_reader_of_console_blocks_reads_them_right():
    text = "$ one \\\n  two\nout\n$ three\n"
    assert list(commands(text)) == [("one \\\n  two\n", "out"), ("three\n", "")]
    assert hasten("danlu pretrain d --budget 3m -o m") == f"danlu pretrain d --budget '{BUDGET}' -o m"
    assert fits("a ... c\nd", "a b c  \nd\n") and not fits("a\nb", "a\nc")
