"""Answers to prompts, written and scored a few prompts at a time, and kept on disk as they come.

OUT.run/answers-*/PART.jsonl: one line a prompt, each part whole or not there. A part is a pure function of the model, the seed
and the number of its first prompt, so a harvest that was killed goes on with the part that was not there and ends with the same
answers.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from danlu.core import files, log
from danlu.core.errors import BadInput
from danlu.core.seeds import derive
from danlu.data.shards import Document
from danlu.engine.live import LiveEngine
from danlu.engine.request import Sampling
from danlu.objectives.answers import Messages, messages_of, place_of, tools_of
from danlu.tokenizer.chat import encode_chat
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.train.rewards.base import Asked, Mix


@dataclass(frozen=True)
class Prompt:
    """What is asked."""

    document: Document
    messages: Messages
    tools: Messages | None
    truth: str
    ids: list[int] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What was answered, and what it is worth."""

    text: str
    tokens: int
    ended: bool
    """Whether the model ended its turn by itself."""
    reward: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    """The single rewards."""


def read_prompts(
    documents: Iterable[Document], tokenizer: Tokenizer, most: int, drop: bool
) -> tuple[list[Prompt], int]:  # fmt: skip
    """The prompts of samples, and how many were left out because they are longer than `most` tokens; drop: whether they may be.

    A conversation is asked up to its last answer, which is then what is known to be right. Raises BadInput.
    """
    found, left_out = [], 0
    for document in documents:
        messages, truth = asked_of(document)
        tools = tools_of(document)
        try:
            ids = encode_chat(tokenizer, str(tokenizer.chat_template), messages, tools)
        except BadInput as error:
            raise BadInput(f"{place_of(document)}: {error.args[0]}") from None
        if len(ids) > most:
            if not drop:
                raise BadInput(
                    f"{place_of(document)}: the prompt has {len(ids)} tokens, and {most} leave room for the answer. Ask for "
                    f"fewer --ask.max_tokens, say --overlong drop, or take a model with a longer context."
                )
            left_out += 1
            continue
        found.append(Prompt(document, messages, tools, truth, ids))
    return found, left_out


def asked_of(document: Document) -> tuple[Messages, str]:
    """The messages to answer, and what is known to be right; empty where nothing is."""
    if "prompt" in document.sample:
        return messages_of(document, "prompt"), str(document.sample.get("answer") or "")
    messages = messages_of(document, "messages")
    last = max(at for at, one in enumerate(messages) if one["role"] == "assistant")
    return messages[:last], str(messages[last].get("content") or "")


@dataclass
class Harvest:
    """Writes and scores. rewards: None where answers are not judged. stopped: asked between two parts."""

    live: LiveEngine
    sampling: Sampling
    rewards: Mix | None
    answers: int
    at_once: int
    seed: int
    folder: Path
    stopped: Callable[[], bool] = lambda: False

    def gather(self, split: str, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, list[Answer]]]:
        """Every prompt with its answers, in order. Ends early where `stopped` says so."""
        starts = range(0, len(prompts), self.at_once)
        with log.progress(f"answer, {split}", total=len(prompts), unit="prompts") as bar:
            for start in starts:
                if self.stopped():
                    return
                these = prompts[start : start + self.at_once]
                yield from zip(these, self._part(split, start, these), strict=True)
                bar.advance(len(these))

    def _part(self, split: str, start: int, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """The answers of one part: from disk, or written now and put there."""
        path = self.folder / f"{split}-{start:08d}.jsonl"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            return [[Answer(**one) for one in json.loads(line)] for line in lines]
        found = self._write(split, start, prompts)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps([asdict(one) for one in answers], ensure_ascii=False) for answers in found]
        files.write_text(path, "".join(line + "\n" for line in lines))
        return found

    def _write(self, split: str, start: int, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        seed = derive(self.seed, "answers", split)
        written = self.live.write([one.ids for one in prompts], self.sampling, self.answers, seed, start)
        tokenizer, ends = self.live.model.tokenizer, self.live.model.ends
        asked = [
            Asked(prompt.messages, tokenizer.decode([token for token in one.ids if token not in ends]), prompt.truth,
                  one.reason == "eos", len(one.ids))
            for prompt, choices in zip(prompts, written, strict=True) for one in choices
        ]  # fmt: skip
        scores = self.rewards.score(asked) if self.rewards else None
        answers = [
            Answer(one.answer, one.tokens, one.ended, scores.total[at] if scores else 0.0,
                   {name: part[at] for name, part in scores.parts.items()} if scores else {})
            for at, one in enumerate(asked)
        ]  # fmt: skip
        return [answers[at : at + self.answers] for at in range(0, len(answers), self.answers)]


def facts(prompt: Prompt) -> dict[str, Any]:
    """What a new sample keeps of the document that its prompt came from."""
    one = prompt.document
    return {"source": one.source, "path": one.path, "line": one.line, "licence": one.licence, "language": one.language}
