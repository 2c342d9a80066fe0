"""Prompts to be answered: lines of a text file, records of JSON lines in any form that is about, or a dataset's samples."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.core.errors import BadInput
from danlu.data.forms import asked
from danlu.data.shards import read_documents


@dataclass(frozen=True)
class Prompt:
    """What is asked, and where it stands."""

    messages: list[dict[str, Any]]
    path: str
    line: int


def read_prompts(path: Path) -> list[Prompt]:
    """Every prompt, each once, in order. Raises BadInput naming the line that is none."""
    if path.is_dir():
        found = _samples(path)
    elif not path.is_file():
        raise BadInput(
            f"{path} does not exist. Give a text file (a prompt a line), a .jsonl file, or a folder of `danlu prepare`."
        )
    else:
        found = _records(path) if path.suffix == ".jsonl" else _lines(path)
    prompts: dict[str, Prompt] = {}
    for one in found:
        prompts.setdefault(json.dumps(one.messages, ensure_ascii=False), one)
    if not prompts:
        raise BadInput(f"{path} holds no prompt. Write one a line, or records with a field such as prompt or messages.")
    return list(prompts.values())


def _lines(path: Path) -> Iterator[Prompt]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text in UTF-8 ({error}).") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield Prompt([{"role": "user", "content": line.strip()}], str(path), number)


def _records(path: Path) -> Iterator[Prompt]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield Prompt(_open(asked.prompt(json.loads(line), "")), str(path), number)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadInput(f"{path}:{number}: {error}. Each line is an object with a field {', '.join(asked.KNOWN)}.") from None


def _samples(folder: Path) -> Iterator[Prompt]:
    for document in read_documents(folder, "train"):
        column = next((name for name in ("prompt", "messages") if name in document.sample), None)
        if column is None:
            raise BadInput(f"{folder} holds no prompts and no conversations, only {', '.join(document.sample) or 'text'}.")
        value = document.sample[column]
        messages = json.loads(value) if value.startswith("[") else [{"role": "user", "content": value}]
        yield Prompt(_open(messages), document.path, document.line)


def _open(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A conversation up to the last thing that somebody else than the assistant said."""
    last = max((at for at, message in enumerate(messages) if message["role"] != "assistant"), default=-1)
    if last < 0:
        raise ValueError("nobody asks anything")
    return messages[: last + 1]
