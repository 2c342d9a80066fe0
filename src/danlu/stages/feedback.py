"""Ask people which of two answers is better, and make a data set of preferences from what they say."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from danlu.core import log
from danlu.core.artifact import Artifact, check_out, publish, work_folder
from danlu.core.errors import BadInput, DanluError, NoUsableText
from danlu.engine.request import Sampling
from danlu.stages import STAGES

if TYPE_CHECKING:
    from danlu.apps.feedback.collection import Collection, Question
    from danlu.apps.feedback.prompts import Prompt

_KEYS = {"1": "first", "2": "second", "=": "tie", "0": "bad", "s": "skip"}
_HELP = """1 2     this answer is better        =   both as good        0   both bad        s   skip
        a reason may follow: 2 it answers the question
/undo   judge the last pair again
/finish publish what there is
/quit   leave; the same command goes on here (so do Ctrl-C and the end of input)"""


class Feedback(Sampling):
    """Shows two answers to a prompt, of two models or of one model with two seeds, in an order of chance and without names, and
    asks which is better. Every judgement is on disk before the next pair is shown. When all pairs are judged (or with --finish)
    they become a data set for `danlu align`."""

    positional = ("models", "prompts")

    models: list[Path] = Field(min_length=1, max_length=2)
    """Folder of the model that answers, or of two."""
    prompts: Path
    """What is asked: a text file with a prompt a line, a .jsonl file of prompts or conversations, or a folder of
    `danlu prepare`."""
    out: Path
    """Folder of the data set; answers and judgements lie beside it in OUT.run until then, and stay there."""
    annotator: str = "anonymous"
    """Who judges: 1 to 64 characters."""
    system: str | None = None
    """How the models shall be: a message of the system before each prompt that has none."""
    overlap: float = Field(0.2, ge=0, le=1)
    """Share of the pairs that every annotator judges, so that agreement can be measured; each of the others is judged once."""
    most: int | None = Field(None, ge=1)
    """Prompts that are used at most; None: all."""
    prepare: bool = False
    """Only write the answers: then judge in the browser, with `danlu serve MODEL --feedback OUT.run`."""
    finish: bool = False
    """Publish what was judged so far, and show nothing."""
    holdout: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts whose preferences validate."""
    licence: str = "unknown"
    """Licence of prompts and answers."""
    overwrite: bool = False
    """Replace a finished output."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len(self.models) == 1 and self.temperature == 0:
            raise ValueError("one model at temperature 0 gives the same answer twice: give a second model, or more temperature")
        if self.prepare and self.finish:
            raise ValueError("--prepare writes answers and --finish publishes judgements: one after the other")
        return self


@STAGES.register
def feedback(config: Feedback) -> Artifact | None:
    """Ask; returns the data set, or None where judging goes on later."""
    from danlu.apps.feedback.collection import Collection, check_annotator
    from danlu.apps.feedback.prompts import read_prompts

    check_out(config.out, config.overwrite)
    check_annotator(config.annotator)
    prompts = read_prompts(config.prompts)[: config.most]
    collection = Collection.begin(work_folder(config.out), made_from(config, prompts))
    writer = Writer(config, prompts, collection)
    if config.prepare:
        writer.write_all()
        log.say(f"{len(collection.pairs())} pairs of answers wait in {collection.folder}; judge them in the browser with: "
                f"danlu serve {config.models[0]} --feedback {collection.folder}")  # fmt: skip
        return None
    if not config.finish and not Table(collection, writer, config.annotator).sit():
        return None
    return published(config, collection, len(prompts))


def made_from(config: Feedback, prompts: "list[Prompt]") -> dict[str, Any]:
    """What makes pairs these pairs and no others."""
    import hashlib
    import json

    from danlu.engine.folder import model_input

    text = json.dumps([one.messages for one in prompts], ensure_ascii=False)
    sampling = {name: getattr(config, name) for name in Sampling.model_fields}
    return {"models": [model_input(path).id for path in config.models], "names": [path.resolve().name for path in config.models],
            "prompts": hashlib.sha256(text.encode()).hexdigest()[:16], "system": config.system, "overlap": config.overlap,
            **sampling}  # fmt: skip


class Writer:
    """Writes the pairs, one after another, as they are needed."""

    def __init__(self, config: Feedback, prompts: "list[Prompt]", collection: "Collection"):
        self.config, self.prompts, self.collection = config, prompts, collection
        self._models: list[Any] = []

    def write_all(self) -> None:
        """Write what is missing."""
        with log.progress("write answers", total=len(self.prompts), unit="pairs") as bar:
            bar.advance(len(self.collection.pairs()))
            while self.write_next():
                bar.advance(1)

    def write_next(self) -> bool:
        """Write the next pair; False where there is none."""
        from danlu.apps.feedback.collection import Pair

        number = len(self.collection.pairs())
        if number >= len(self.prompts):
            return False
        prompt = self.prompts[number]
        asked = prompt.messages
        if self.config.system and asked[0]["role"] != "system":
            asked = [{"role": "system", "content": self.config.system}, *asked]
        first, second = (self._answer(which, number, asked) for which in range(2))
        self.collection.add(Pair(f"{number + 1:06}", asked, (first, second), prompt.path, prompt.line))
        return True

    def _answer(self, which: int, number: int, asked: list[dict[str, Any]]) -> Any:
        from danlu.apps.feedback.collection import Answer
        from danlu.core.seeds import derive

        model = self._opened()[which % len(self._opened())]
        seed = derive(self.config.seed, "answer", number, which) % 2**31
        sampling = Sampling(**{name: getattr(self.config, name) for name in Sampling.model_fields if name != "seed"}, seed=seed)
        thought, text, ended = answer(model, asked, sampling)
        return Answer(text, model.path.resolve().name, seed, ended, thought)

    def _opened(self) -> list[Any]:
        from danlu.engine.model import load

        if not self._models:
            self._models = [load(path) for path in self.config.models]
            for model in self._models:
                model.check_goes_on()
        return self._models


def answer(model: Any, asked: list[dict[str, Any]], sampling: Sampling) -> tuple[str, str, bool]:
    """What a model thought, what it said, and whether it came to an end. A base model goes on with the only message's text."""
    from danlu.engine.converse import reply
    from danlu.server.reasoning import Thinking, marks_of, opens

    template = model.tokenizer.chat_template
    if not template:
        if len(asked) != 1:
            raise BadInput(f"{model.path} has no chat template, so it can only go on with one text, not answer a conversation of "
                           f"{len(asked)} messages. Leave --system out and give single prompts.")  # fmt: skip
        writing = model.write(asked[0]["content"], sampling)
        return "", "".join(writing), writing.reason != "length"
    writing = reply(model, asked, sampling)
    marks = marks_of(template)
    if marks is None:
        return "", "".join(writing), writing.reason != "length"
    thinking = Thinking(marks, opens(template, marks, {}))
    parts = [part for piece in writing for part in thinking.push(piece)] + thinking.finish()
    thought, said = ("".join(text for is_thought, text in parts if is_thought is wanted) for wanted in (True, False))
    return thought, said, writing.reason != "length"


class Table:
    """Where somebody sits and judges: questions on stdout, notices on stderr, answers from stdin."""

    def __init__(self, collection: "Collection", writer: Writer, annotator: str):
        self.collection, self.writer, self.annotator = collection, writer, annotator

    def sit(self) -> bool:
        """Ask until all is judged or somebody leaves; whether it is to be published."""
        print(_HELP, file=sys.stderr)
        while (question := self._next()) is not None:
            self._show(question)
            done = self._ask(question)
            if done is not None:
                return done
        print("Everything is judged.", file=sys.stderr)
        return True

    def _next(self) -> "Question | None":
        """What is judged next; its answers are written where they are missing."""
        while (question := self.collection.next(self.annotator)) is None and self.writer.write_next():
            pass
        return question

    def _show(self, question: "Question") -> None:
        counts = self.collection.progress(self.annotator)
        lines = [f"\n── {counts['yours'] + 1} of {len(self.writer.prompts)} ──"]
        lines += [f"{message['role']}: {message['content']}" for message in question.pair.prompt]
        for number, text in enumerate(question.texts, 1):
            lines += [f"\n── answer {number} ──", text or "(nothing)"]
        print("\n".join(lines), flush=True)

    def _ask(self, question: "Question") -> bool | None:
        """Read until the pair is judged (None), or somebody leaves: True to publish, False to go on another time."""
        shown = time.monotonic()
        while True:
            line = _line()
            word, _, rest = (line or "/quit").strip().partition(" ")
            if word in ("/quit", "/finish"):
                if word == "/quit":
                    print("Kept. The same command goes on here.", file=sys.stderr)
                return word == "/finish"
            if word == "/undo":
                if self.collection.undo(self.annotator) is None:
                    print("Nothing was judged yet.", file=sys.stderr)
                    continue
                return None
            if word in _KEYS:
                try:
                    self.collection.judge(question.pair.id, self.annotator, _KEYS[word], rest, time.monotonic() - shown)
                except DanluError as error:
                    print(f"danlu: {error}", file=sys.stderr)
                    continue
                return None
            print(_HELP, file=sys.stderr)


def _line() -> str | None:
    """The next line, or None at the end of input or on Ctrl-C."""
    try:
        if sys.stdin.isatty():
            print("1, 2, =, 0, s > ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return None
    return line or None


def published(config: Feedback, collection: "Collection", prompts: int) -> Artifact:
    """The data set. Raises NoUsableText where no pair has a better answer."""
    from danlu.apps.feedback import dataset
    from danlu.apps.feedback.outcome import VERDICTS, outcomes
    from danlu.core.artifact import open_artifact
    from danlu.core.lineage import raw_input
    from danlu.engine.folder import model_input

    found = outcomes(collection)
    if not any(each.verdict == "preferred" for each in found):
        counts = ", ".join(f"{sum(each.verdict == name for each in found)} {name}" for name in VERDICTS[1:])
        raise NoUsableText(f"no pair of {collection.folder} has a better answer ({counts}), so there is nothing to learn from. "
                           f"Judge some with the same command without --finish.")  # fmt: skip
    folder, out = config.prompts.is_dir(), config.out
    asked = open_artifact(config.prompts).as_input("prompts") if folder else raw_input("prompts", config.prompts.resolve())
    inputs = [asked, *(model_input(path) for path in config.models)]
    with publish(out, kind="dataset", stage="feedback", settings=config, inputs=inputs, overwrite=config.overwrite) as draft:
        done = dataset.write(draft.path, found, config.holdout, config.seed, config.licence)
        draft.ledger, draft.metrics = done.ledger.as_dict(), {**done.figures, "prompts": prompts}
        draft.seeds, draft.sources, draft.licences = {"seed": config.seed}, [dataset.SOURCE], [config.licence]
    if cut := done.figures["chosen_cut"]:
        log.warn(f"{cut} of the better answers were cut at --max_tokens: learned as they are, they teach a model to stop in the "
                 f"middle. Ask with more --max_tokens, and judge shorter ones.")  # fmt: skip
    log.say("\n  ".join([f"{done.figures['verdicts']['preferred']} preferences from {len(found)} pairs",
                         *(f"{name}: {value}" for name, value in dataset.headlines(done.figures))]))  # fmt: skip
    assert draft.result is not None
    return draft.result
