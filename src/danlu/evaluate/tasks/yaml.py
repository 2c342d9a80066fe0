"""A task from a file in lm-evaluation-harness's YAML form, over local files: `--tasks my/task.yaml`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from danlu.core.errors import BadInput, BadSettings, nearest
from danlu.core.seeds import derive
from danlu.core.settings import Named
from danlu.evaluate import foreseen, generation, multiple_choice
from danlu.evaluate.described import Described, read
from danlu.evaluate.filters import pipelines
from danlu.evaluate.form import Form, Shots, Turn, context, shown
from danlu.evaluate.how import How
from danlu.evaluate.paired import Figure, mean
from danlu.evaluate.subject import Pair, Subject
from danlu.evaluate.tasks import TASKS, documents
from danlu.evaluate.tasks.base import Counter, Result, Sample, Task, begins, pair_ids, prompt_ids
from danlu.evaluate.tasks.documents import Document
from danlu.models.base import Seq2SeqLM

_METRICS: dict[str, Sequence[str]] = {
    "multiple_choice": multiple_choice.METRICS, "loglikelihood": foreseen.CONTINUATION, "loglikelihood_rolling": foreseen.WHOLE,
    "generate_until": generation.METRICS,
}  # fmt: skip
_DEFAULT = {
    "multiple_choice": ("acc", "acc_norm"), "loglikelihood": ("perplexity", "acc"), "loglikelihood_rolling": foreseen.WHOLE,
    "generate_until": ("exact_match",),
}  # fmt: skip
_AGGREGATION = {
    "perplexity": "perplexity", "word_perplexity": "weighted_perplexity", "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte", "brier_score": "brier_score", "mcc": "matthews_corrcoef", "bleu": "bleu", "chrf": "chrf",
    "chrf++": "chrf++",
}  # fmt: skip
_LOWER = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score"}


@TASKS.register
class YamlTask(Task):
    """See described.py for the keys that are read."""

    class Config(Named):
        name: Literal["yaml"] = "yaml"
        path: Path
        """The task's file."""
        folder: Path | None = Field(None)
        """Where relative data_files lie; left out: where the command runs, else beside the task's file."""

    def __init__(self, config: Config):
        self.config, self.described = config, read(config.path)
        self.name = self.described.task
        self._where = f"--tasks {config.path}"
        self.metrics = _metrics(self.described, self._where)
        self.filters = pipelines(self.described.filter_list, self._where)
        self._ask = generation.ask_of(self.described.generation_kwargs, self.described.fewshot_delimiter, self._where)

    def read(self, split: str) -> list[Document]:
        """The documents of a split."""
        return documents.read(self.described.dataset_path, self.described.files, split, self._folders)

    def sources(self) -> list[Path]:
        """See Task.sources."""
        splits = dict.fromkeys([self.described.asked_split, *filter(None, [self.described.fewshot_split])])
        found = [path for split in splits for path in documents.paths(self.described.files, split, self._folders)]
        return [self.config.path, *found]

    @property
    def _folders(self) -> list[Path]:
        return [self.config.folder] if self.config.folder else [Path(), self.config.path.parent]

    def ask(self, subject: Subject, how: How) -> Result:
        """See Task.ask."""
        asked = self.read(self.described.asked_split)
        form, counter = Form(self.described, list(asked[0])), Counter(self.name, how)
        before = self._before(asked, form, how)
        asked = asked[: how.limit]
        how_asked = {
            "multiple_choice": self._choose, "loglikelihood": self._foresee, "loglikelihood_rolling": self._read_whole,
            "generate_until": self._write,
        }[self.described.output_type]  # fmt: skip
        figures, samples = how_asked(subject, how, asked, form, before, counter)
        about = {"output_type": self.described.output_type, "shots": self._shots(how), "metadata": self.described.metadata,
                 "tag": self.described.tag, "file": str(self.config.path)}  # fmt: skip
        return Result(self.name, figures, samples, counter.counts(len(asked)), about)

    def _shots(self, how: How) -> int:
        return (self.described.num_fewshot or 0) if how.shots is None else how.shots

    def _before(self, asked: Sequence[Document], form: Form, how: How) -> "Before":
        count = self._shots(how)
        split = self.described.shown_split
        if count and split is None:
            raise BadSettings(f"{self._where}: {count} examples before each question need a fewshot_split to take them from.")
        pool = self.read(split) if count and split else []
        shots = Shots(self.described, pool, count, how.seed, split == self.described.asked_split)
        return Before(form, shots)

    # ---- kinds of answer

    def _choose(self, subject: Subject, how: How, asked: Sequence[Document], form: Form, before: "Before", counter: Counter
                ) -> tuple[list[Figure], list[Sample]]:  # fmt: skip
        delimiter = "" if how.chat else self.described.target_delimiter
        alone = any(name == "acc_mutual_info" for name, _ in self.metrics)
        ready: list[multiple_choice.Choice] = []
        for number, document in enumerate(asked):
            turns, question, choices = before.of(document), form.question(document), form.choices(document)
            target = form.target(document)
            if isinstance(question, int):  # the choices stand in the context
                gold = multiple_choice.gold_of(question, choices, f"task {self.name}, document {number}")
                contexts = [context(turns, one, how.chat) for one in choices]
                pairs = [pair_ids(subject, one, f"{delimiter}{target}", how) for one in contexts]
                told = f"... {target}"
            else:
                gold = multiple_choice.gold_of(target, choices, f"task {self.name}, document {number}")
                contexts = [context(turns, question, how.chat)]
                pairs = [pair_ids(subject, contexts[0], f"{delimiter}{one}", how) for one in choices]
                told = shown(contexts[0])
            one = multiple_choice.Choice(number, told, choices, gold, pairs, several=isinstance(target, list))
            one.pairs = [_fitted(subject, counter, number, pair) for pair in pairs]
            if alone:
                one.alone = [pair_ids(subject, "", f"{delimiter}{choice}", how) for choice in choices]
            ready.append(one)
        ready = [one for one in ready if one.document not in counter.skipped]
        _some(ready, self.name)
        multiple_choice.score(subject, ready)
        figures = [multiple_choice.figure(name, ready) for name, _ in self.metrics]
        samples = [
            Sample(one.document, one.asked, one.choices[one.said()], " | ".join(one.choices[at] for at in one.gold),
                   one.said() in one.gold, [float(nats) for nats in one.nats]) for one in ready
        ]  # fmt: skip
        return figures, _marked(samples, figures)

    def _foresee(self, subject: Subject, how: How, asked: Sequence[Document], form: Form, before: "Before", counter: Counter
                 ) -> tuple[list[Figure], list[Sample]]:  # fmt: skip
        ready = []
        for number, document in enumerate(asked):
            target = _one_text(form.target(document), self.name, number)
            stands = context(before.of(document), _one_text(form.question(document), self.name, number), how.chat)
            pair = _fitted(subject, counter, number, pair_ids(subject, stands, target, how))
            ready.append((number, stands, target, pair))
        ready = [one for one in ready if one[0] not in counter.skipped]
        _some(ready, self.name)
        found = subject.likelihoods([pair for *_, pair in ready])
        figures = [foreseen.continuation_figure(name, found) for name, _ in self.metrics]
        samples = [
            Sample(number, shown(stands), "greedily the same" if one.greedy else "something else", target, one.greedy, [one.nats])
            for (number, stands, target, _), one in zip(ready, found, strict=True)
        ]
        return figures, _marked(samples, figures)

    def _read_whole(self, subject: Subject, how: How, asked: Sequence[Document], form: Form, before: "Before", counter: Counter
                    ) -> tuple[list[Figure], list[Sample]]:  # fmt: skip
        texts = [_one_text(form.target(document), self.name, number) for number, document in enumerate(asked)]
        begin = begins(subject, how) if how.begin == "auto" else []  # `prefix` stands there anyway
        nats = [foreseen.whole_nats(subject, [*begin, *subject.tokenizer.encode(text)]) for text in texts]
        figures = [foreseen.whole_figure(name, texts, nats) for name, _ in self.metrics]
        samples = [Sample(number, text, "", "", None, [one]) for number, (text, one) in enumerate(zip(texts, nats, strict=True))]
        return figures, samples

    def _write(self, subject: Subject, how: How, asked: Sequence[Document], form: Form, before: "Before", counter: Counter
               ) -> tuple[list[Figure], list[Sample]]:  # fmt: skip
        room = self._ask.room
        if room >= subject.context:
            raise BadInput(
                f"task {self.name}: answers of up to {room} tokens leave no room for a question in the context of "
                f"{subject.model.path}, {subject.context}. Say generation_kwargs.max_gen_toks in the task's file."
            )
        ready = []
        for number, document in enumerate(asked):
            stands = context(before.of(document), _one_text(form.question(document), self.name, number), how.chat)
            most = subject.context if isinstance(subject.model.model, Seq2SeqLM) else subject.context - room
            ids = counter.fit(number, prompt_ids(subject, stands, how), most)
            ready.append((number, stands, ids, _references(form, document)))
        ready = [one for one in ready if one[0] not in counter.skipped]
        _some(ready, self.name)
        seeds = [derive(how.seed, self.name, number) for number, *_ in ready]
        answers = subject.answers([ids for *_, ids, _ in ready], self._ask.sampling, room, seeds)
        true = [references for *_, references in ready]
        figures, told = [], []
        for pipeline in self.filters:
            said = [pipeline(one.text) for one in answers]
            told.append(said)
            for name, settings in self.metrics:
                found = generation.figure(name, said, true, **settings)
                named = f"{name},{pipeline.name}" if self.described.filter_list else name
                figures.append(dataclasses.replace(found, name=named))
        first = self.metrics[0][0]
        samples = [
            Sample(number, shown(stands), answers[at].text, " | ".join(references), generation.right(first, figures[0], at),
                   marks={"tokens": float(len(answers[at].ids)), "ended": float(answers[at].ended)})
            for at, (number, stands, _, references) in enumerate(ready)
        ]  # fmt: skip
        if self.described.filter_list:
            for sample, taken in zip(samples, told[0], strict=True):
                sample.said = f"{taken}   <- {sample.said}"
        return figures, _marked(samples, figures)


class Before:
    """What stands before each question: the description and its examples."""

    def __init__(self, form: Form, shots: Shots):
        self._form, self._shots = form, shots

    def of(self, document: Document) -> list[Turn]:
        """Turns before one document, which must be asked for in order."""
        return self._form.turns(document, self._shots.of(document))


def _metrics(task: Described, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Names of metrics with their settings. Raises BadSettings for what is unknown or would be counted otherwise here."""
    known = _METRICS[task.output_type]
    found: list[tuple[str, dict[str, Any]]] = []
    for told in [{"metric": name} for name in _DEFAULT[task.output_type]] if task.metric_list is None else task.metric_list:
        rest = dict(told)
        name = rest.pop("metric", None)
        if name not in known:
            raise BadSettings(f"{where}: no metric called {name!r} for {task.output_type}. {nearest(str(name), known)}")
        how, higher = rest.pop("aggregation", None), rest.pop("higher_is_better", None)
        wanted = _AGGREGATION.get(name, "f1" if name == "f1" and task.output_type == "multiple_choice" else "mean")
        if how not in (None, wanted):
            raise BadSettings(f"{where}: metric {name} is aggregated by {wanted} here, not {how!r}.")
        if higher not in (None, name not in _LOWER):
            raise BadSettings(f"{where}: metric {name}: higher_is_better is {name not in _LOWER}, whatever the file says.")
        allowed = generation.settings_of(name) if task.output_type == "generate_until" else frozenset()
        if strange := sorted(rest.keys() - allowed):
            settings = ", ".join(sorted(allowed)) or "none"
            raise BadSettings(f"{where}: metric {name} has no setting {strange[0]!r}; known: {settings}.")
        found.append((name, rest))
    if not found:
        raise BadSettings(f"{where}: metric_list is empty, so nothing would be counted. Known: {', '.join(known)}.")
    return found


def _fitted(subject: Subject, counter: Counter, number: int, pair: Pair) -> Pair:
    """A pair that fits the context; the last token of a continuation is foreseen and need not be read."""
    if isinstance(subject.model.model, Seq2SeqLM):
        return Pair(counter.fit(number, pair.before, subject.context), pair.after)
    return Pair(counter.fit(number, pair.before, subject.context + 1 - len(pair.after)), pair.after)


def _references(form: Form, document: Document) -> list[str]:
    target = form.target(document)
    if form.task.doc_to_choice is not None and isinstance(target, int):
        target = form.choices(document)[target]
    return [str(one) for one in target] if isinstance(target, list) else [str(target)]


def _one_text(value: Any, task: str, number: int) -> str:
    if isinstance(value, Mapping | list) or value is None:
        raise BadInput(f"task {task}, document {number}: expected a text, found {value!r}.")
    return str(value)


def _some(ready: Sequence[Any], task: str) -> None:
    if not ready:
        raise BadInput(f"task {task}: no question fits the context. Ask a model with a longer one, or say --overlong truncate.")


def _marked(samples: list[Sample], figures: Sequence[Figure]) -> list[Sample]:
    """Each document's own share of the figures that are means."""
    for figure in figures:
        if figure.finish is mean:
            values = figure.parts_NS[:, 0] / np.maximum(figure.parts_NS[:, 1], 1e-12)
            for sample, value in zip(samples, values, strict=True):
                sample.marks[figure.name] = float(value)
    return samples
