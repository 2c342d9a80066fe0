"""Answers of the model itself as batches: every few steps it answers prompts as it then is, and learns from its answers.

A roll-out is a pure function of the weights, the seed and its number r: it answers the prompts [r P, (r + 1) P) of an endless
stream in which each epoch is a permutation. It serves `updates` steps and lies whole in OUT.run/rollouts meanwhile: a run that
was killed goes on with the very answers that it had. Of several processes each writes a share; which answers there are does not
depend on their number. A answers, M tokens of all of them, P prompts, T tokens of a row.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danlu.core import log
from danlu.core.errors import BadInput, BadSettings, DatasetTooSmall
from danlu.core.labels import NO_LABEL
from danlu.core.seeds import derive
from danlu.data.shards import Document
from danlu.engine.live import LiveEngine
from danlu.engine.request import Sampling
from danlu.models.heads import texts_in_rows
from danlu.objectives.answers import messages_of, place_of
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import TooLong
from danlu.objectives.policy import Policy, Rolled, RolloutBatch, token_weights
from danlu.train.answering import Rollouts
from danlu.train.launch import World
from danlu.train.rewards.base import Asked, Mix
from danlu.train.rolled import Answers, Kept
from danlu.train.samples import Samples

Array = NDArray[Any]


@dataclass
class Prompts(Samples):
    """The prompts of a split: `encoded` holds their tokens."""

    messages: list[list[dict[str, Any]]] = field(default_factory=list)
    truths: list[str] = field(default_factory=list)


def read_prompts(documents: Sequence[Document], objective: Policy, frame: Frame, overlong: str) -> Prompts:
    """Encode a split. frame.most: tokens that leave room for an answer. Raises BadInput for the first prompt that is too long,
    where prompts may not be dropped."""
    if overlong not in ("raise", "drop"):
        raise BadSettings(f"--overlong {overlong}: a prompt that is cut asks something else. Say raise or drop.")
    found = Prompts()
    with log.progress("encode prompts", total=len(documents), unit="prompts") as bar:
        for document in documents:
            bar.advance(1)
            found.ledger["samples"] += 1
            try:
                found.encoded += objective.encode(document, frame, "raise")
            except TooLong as long:
                if overlong == "raise":
                    raise BadInput(
                        f"{place_of(document)}: the prompt has {long.tokens} tokens, and {frame.most} leave room for the answer. "
                        f"Set fewer --rollouts.max_tokens, say --overlong drop, or take a model with a longer context."
                    ) from None
                found.ledger["dropped"] += 1
                continue
            found.ledger["parts"] += 1
            found.places.append(place_of(document))
            found.messages.append(messages_of(document, "prompt"))
            found.truths.append(document.sample.get("answer", ""))
    return found


@dataclass(frozen=True)
class _Origins:
    """What blame asks of a packer: answers are named by their prompts."""

    row_tokens: int
    tokens: "RolloutBatches"
    seed: int


@dataclass
class RolloutBatches:
    """The micro-batches of one process; the face of SampleBatches. model: what trains, with its value head where it has one.

    reference: within it `model` computes as it began, or a model that does; None: nothing asks for it.
    """

    prompts: Prompts
    objective: Policy
    settings: Rollouts
    model: Any
    live: LiveEngine
    rewards: Mix
    kept: Kept
    row_tokens: int
    micro_tokens: int
    seed: int
    world: World = field(default_factory=World)
    reference: Callable[[], contextlib.AbstractContextManager[Any]] | None = None
    heldout: Prompts | None = None
    held: Answers | None = None
    """The roll-out of the last step."""

    def __post_init__(self) -> None:
        if not len(self.prompts):
            raise DatasetTooSmall("the dataset gives no prompt to train on. Add some.")
        size, settings = self.world.size, self.settings
        if settings.prompts < size or self.size_of_step < size:
            raise BadSettings(
                f"{size} processes share {settings.prompts} prompts of a roll-out and {self.size_of_step} answers of a step: "
                f"some would have none. Set more --rollouts.prompts, or fewer --rollouts.minibatches."
            )
        self.objective.temperature = settings.temperature

    @property
    def samples(self) -> Prompts:
        """What an epoch goes through."""
        return self.prompts

    @property
    def packer(self) -> _Origins:
        """The answers, under the name by which blame looks for them."""
        return _Origins(self.row_tokens, self, self.seed)

    @property
    def size_of_step(self) -> int:
        """Answers of a step, over all processes; the largest where they do not divide."""
        return -(-self.settings.prompts * self.settings.answers // self.settings.minibatches)

    @property
    def processes(self) -> int:
        return self.world.size

    @property
    def each(self) -> str:
        """What a roll-out takes of them, in words."""
        settings = self.settings
        steps = "each step" if settings.updates == 1 else f"{settings.updates} steps"
        return f"prompts, {settings.prompts} answered {settings.answers} times for {steps}"

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every prompt is answered once."""
        return len(self.prompts) / self.settings.prompts * self.settings.updates

    def origin(self, answer: int) -> str:
        """File and line of an answer's prompt, and which of the answers of its roll-out it is."""
        held = self.held
        place = self.prompts.origin(int(held.prompt_A[answer])) if held is not None else "?"
        return f"{place}, answer {answer} of roll-out {held.number if held else '?'}"

    def step(self, step: int) -> list[Batch]:
        """This process's share of a step, in order; the first step of a roll-out has it written."""
        number, turn = divmod(step, self.settings.updates)
        held = self.rolled(number)
        passes, part = divmod(turn, self.settings.minibatches)
        order = np.random.default_rng(derive(self.seed, "answers", number, passes)).permutation(len(held))
        chosen = np.array_split(order, self.settings.minibatches)[part]
        counted_A = torch.from_numpy(held.ended_A[chosen] if self.settings.cut == "mask" else np.ones(len(chosen), bool))
        lengths_A = torch.from_numpy(held.lengths_A[chosen])
        weights_A = token_weights(self.objective.share, lengths_A, counted_A, self.settings.max_tokens).numpy()
        pairs = list(zip(chosen.tolist(), weights_A.tolist(), strict=True))
        return [self._packed(held, part) for part in self._shares(held, pairs)[self.world.rank]]

    def totals(self, steps: int) -> dict[str, int]:
        """Counts of all answers of so many steps. One process may ask alone."""
        last = (steps - 1) // self.settings.updates
        held = self.held if self.held is not None and self.held.number == last else self.kept.load(last, World())
        return dict(held.totals) if held is not None else {}

    def trial(self) -> "RolloutBatches":
        """The same to try steps with: nothing of it is kept."""
        return replace(self, kept=Kept(None, self.settings.updates), held=None)

    def shown(self, held: Answers) -> list[dict[str, Any]]:
        """Some answers of a roll-out, for people: those to the first prompts."""
        group = self.settings.answers
        chosen = [at // len(range(0, len(held), group)) + at % len(range(0, len(held), group)) * group for at in range(len(held))]
        return [
            {"prompt": str(self.prompts.messages[held.prompt_A[at]][-1].get("content", "")), "text": held.texts[at],
             "reward": float(held.total_A[at]), "ended": bool(held.ended_A[at])}
            for at in chosen[: self.settings.shown]
        ]  # fmt: skip

    def _shares(self, held: Answers, pairs: list[tuple[int, float]]) -> list[list[list[tuple[int, float]]]]:
        """Each process's micro-batches, equally many for each."""
        bounds = np.linspace(0, len(pairs), self.world.size + 1).astype(int)
        shares = [pairs[start:end] for start, end in pairwise(bounds)]
        most = max(sum(self._width(held, answer) for answer, _ in share) for share in shares)
        count = min(-(-most // self.micro_tokens), min(map(len, shares)))
        return [[share[at::count] for at in range(count)] for share in shares]

    def _width(self, held: Answers, answer: int) -> int:
        return len(self.prompts.encoded[held.prompt_A[answer]].ids) + int(held.lengths_A[answer]) - 1

    # ---- one roll-out

    def rolled(self, number: int) -> Answers:
        """The answers of a roll-out: in memory, on disk, or written now."""
        if self.held is None or self.held.number != number:
            found = self.kept.load(number, self.world)
            if found is None:
                before = self.held if self.held is not None and self.held.number == number - 1 else None
                before = before or self.kept.load(number - 1, self.world)
                state, totals = (self.objective.start(), {}) if before is None else (before.state, before.totals)
                found = self._roll(number, state, totals)
                self.kept.save(found, self.world)
            self.held = found
        return self.held

    def _roll(self, number: int, state: Mapping[str, float], totals: Mapping[str, int]) -> Answers:
        started = time.monotonic()
        found, rounds, silent = self._answer(number, 0), 1, 0
        while (dull := found.dull_P(self.settings.answers)).any() and rounds <= self.settings.resample:
            more = self._answer(number, rounds)
            fresh = np.flatnonzero(~more.dull_P(self.settings.answers))[: dull.sum()]
            found.replace(np.flatnonzero(dull)[: len(fresh)], more, fresh, self.settings.answers)
            rounds, silent = rounds + 1, silent + int(dull.sum())
        written_s = time.monotonic() - started
        self._score(found)
        rolled = Rolled(
            self.settings.answers, torch.from_numpy(found.total_A), torch.from_numpy(found.lengths_A),
            *(None if part is None else torch.from_numpy(part) for part in (found.old_M, found.reference_M, found.values_M)),
        )  # fmt: skip
        credit = self.objective.credit(rolled, state)
        found.advantages_M = credit.advantages_M.float().numpy()
        found.returns_M = None if credit.returns_M is None else credit.returns_M.float().numpy()
        found.totals = {name: totals.get(name, 0) + value for name, value in found.counted(self.settings.answers).items()}
        found.totals["replaced"] = totals.get("replaced", 0) + silent
        found.state, found.figures = credit.state, {**found.measured(self.settings.answers), **credit.figures}
        found.figures |= {"rounds": rounds, "seconds": time.monotonic() - started, "replaced": silent,
                          "tokens_per_s": len(found.ids_M) / max(written_s, 1e-9)}  # fmt: skip
        return found

    def _answer(self, number: int, again: int) -> Answers:
        """The answers to the prompts of a roll-out, or of a further round of it, with their rewards."""
        chosen = self.chosen(number, again)
        mine = np.array_split(np.arange(len(chosen)), self.world.size)[self.world.rank]
        ids = [self.prompts.encoded[chosen[at]].ids.tolist() for at in mine]
        seed, group = derive(self.seed, "rollout", number, again), self.settings.answers
        written = self.live.write(ids, sampling_of(self.settings), group, seed, int(mine[0]))
        answers = [one for choices in written for one in choices]
        asked = self.asked(self.prompts, np.repeat(chosen[mine], group).tolist(), answers)
        scores = self.rewards.score(asked)
        shares = self.world.gather((answers, scores.total, scores.parts, [one.answer for one in asked]))
        return Answers.of(
            number, np.repeat(chosen, group), [one for share in shares for one in share[0]],
            [one for share in shares for one in share[1]],
            {name: [one for share in shares for one in share[2][name]] for name in scores.parts},
            [one for share in shares for one in share[3]],
        )  # fmt: skip

    def chosen(self, number: int, again: int = 0) -> Array:
        """The prompts of a roll-out; those of a further round are drawn at random."""
        size = self.settings.prompts
        if again:
            return np.random.default_rng(derive(self.seed, "again", number, again)).integers(0, len(self.prompts), size)
        found = []
        for place in range(number * size, (number + 1) * size):
            epoch, at = divmod(place, len(self.prompts))
            found.append(self._order(epoch)[at])
        return np.array(found, np.int64)

    def _order(self, epoch: int) -> Array:
        return np.random.default_rng(derive(self.seed, "prompts", epoch)).permutation(len(self.prompts))

    def asked(self, prompts: Prompts, numbers: Sequence[int], answers: Sequence[Any]) -> list[Asked]:
        """Answers as rewards see them."""
        ends, tokenizer = self.live.model.ends, self.live.model.tokenizer
        return [
            Asked(prompts.messages[number], tokenizer.decode([token for token in one.ids if token not in ends]),
                  prompts.truths[number], one.reason == "eos", len(one.ids))
            for number, one in zip(numbers, answers, strict=True)
        ]  # fmt: skip

    # ---- what the module says of the answers

    @torch.no_grad()
    def _score(self, held: Answers) -> None:
        """Fill in the log-probabilities and values that credit and loss are about, each process for its share."""
        wanted = {
            "old_M": self.settings.updates > 1 or self.objective.needs_old or self.objective.valued or self.reference is not None,
            "values_M": self.objective.valued, "reference_M": self.reference is not None,
        }  # fmt: skip
        if not any(wanted.values()):
            return
        every = [(answer, 1.0) for answer in range(len(held))]
        training = self.model.training
        self.model.eval()
        try:
            parts = [self._said(held, part, wanted) for part in self._shares(held, every)[self.world.rank]]
        finally:
            self.model.train(training)
        shares = [one for share in self.world.gather(parts) for one in share]
        order = np.argsort(np.concatenate([np.repeat(part[0], held.lengths_A[part[0]]) for part in shares]), kind="stable")
        for name in (name for name, asked in wanted.items() if asked):
            setattr(held, name, np.concatenate([part[1][name] for part in shares])[order])

    def _said(self, held: Answers, pairs: list[tuple[int, float]], wanted: Mapping[str, bool]) -> tuple[Array, dict[str, Array]]:
        """For some answers, in the order of their numbers: (answers, what was asked, their tokens one behind another)."""
        batch = self._packed(held, pairs).to(self.world.device)
        assert isinstance(batch, RolloutBatch)
        chosen_BT = batch.targets != NO_LABEL
        order = torch.argsort(batch.answers[chosen_BT], stable=True)  # type: ignore[index]  # they are there
        hidden_BTD = self.model.hidden(batch.ids, documents_BT=batch.documents)
        found = {"old_M": self._logprobs(self.model, hidden_BTD, batch, chosen_BT)}
        if wanted["values_M"]:
            found["values_M"] = self.model.values(hidden_BTD, batch.ids, batch.documents)[chosen_BT]
        if self.reference is not None:
            with self.reference() as other:
                found["reference_M"] = self._logprobs(
                    other, other.hidden(batch.ids, documents_BT=batch.documents), batch, chosen_BT
                )
        numbers = np.sort([answer for answer, _ in pairs])
        return numbers, {name: part[order].float().cpu().numpy() for name, part in found.items()}

    def _logprobs(self, model: Any, hidden_BTD: Tensor, batch: Batch, chosen_BT: Tensor) -> Tensor:
        found: Tensor = model.token_logprobs_and_entropy(
            hidden_BTD[chosen_BT], batch.targets[chosen_BT], self.objective.temperature
        )[0]
        return found

    def _packed(self, held: Answers, pairs: Sequence[tuple[int, float]]) -> RolloutBatch:
        """Answers, with what their tokens count, side by side in as few rows as they need."""
        lengths = [self._width(held, answer) for answer, _ in pairs]
        rows = texts_in_rows(lengths, max(self.row_tokens, *lengths))
        width = max(sum(lengths[at] for at in row) for row in rows)
        beside = {name: part for name in _BESIDE if (part := getattr(held, f"{name}_M")) is not None}
        if self.settings.updates == 1:
            beside.pop("old", None)  # the step itself computes it
        shape = (len(rows), width)
        ids, targets, answers = np.zeros(shape, np.int64), np.full(shape, NO_LABEL, np.int64), np.full(shape, -1, np.int64)
        documents, along = np.zeros(shape, np.int32), {name: np.zeros(shape, np.float32) for name in ("weights", *beside)}
        origin = []
        for line, row in enumerate(rows):
            at = 0
            for place, pair in enumerate(sorted(row)):
                answer, weight = pairs[pair]
                own, written = held.span(answer), held.ids_M[held.span(answer)]
                prompt = self.prompts.encoded[held.prompt_A[answer]].ids
                end = at + lengths[pair]
                said = slice(end - len(written), end)
                ids[line, at:end] = np.concatenate([prompt, written[:-1]])
                targets[line, said], answers[line, said], documents[line, at:end] = written, answer, place
                along["weights"][line, said] = weight
                for name, part in beside.items():
                    along[name][line, said] = part[own]
                at = end
            documents[line, at:] = len(row)
            origin.append(np.array([(pairs[pair][0], 0, lengths[pair]) for pair in sorted(row)], np.int64))
        tensors = {name: torch.from_numpy(part) for name, part in along.items()}
        return RolloutBatch(torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(documents), origin,
                            answers=torch.from_numpy(answers), **tensors)  # fmt: skip

    # ---- held-out prompts

    def judge(self) -> dict[str, float] | None:
        """What the likeliest answers to held-out prompts are worth now; None without such prompts. Every process must ask."""
        if self.heldout is None or not len(self.heldout):
            return None
        chosen = np.arange(len(self.heldout))[:: -(-len(self.heldout) // self.settings.judge_prompts)]
        mine = np.array_split(chosen, self.world.size)[self.world.rank].tolist()
        sampling = sampling_of(self.settings).model_copy(update={"temperature": 0.0})
        written = [one for choices in self.live.write([self.heldout.encoded[at].ids.tolist() for at in mine], sampling)
                   for one in choices]  # fmt: skip
        scores = self.rewards.score(self.asked(self.heldout, mine, written)) if mine else None
        told = {"answers": len(mine), "reward": sum(scores.total) if scores else 0.0,
                "length": sum(len(one.ids) for one in written),
                "stopped": sum(one.reason == "eos" for one in written)}  # fmt: skip
        told |= {f"reward_{name}": sum(scores.parts[name]) if scores else 0.0 for name in self.rewards.rewards}
        told["squares"] = sum(one * one for one in scores.total) if scores else 0.0
        sums = dict(zip(told, self.world.sum(list(told.values())), strict=True))
        count = sums.pop("answers")
        means = {name: value / count for name, value in sums.items()}
        spread = max(means.pop("squares") - means["reward"] ** 2, 0.0)
        return {"answers": count, **means, "reward_error": (spread / max(count - 1, 1)) ** 0.5}


def sampling_of(settings: Rollouts) -> Sampling:
    """What the engine is asked for."""
    return Sampling(max_tokens=settings.max_tokens, temperature=settings.temperature, top_p=settings.top_p)


_BESIDE = ("advantages", "drawn", "old", "reference", "values", "returns")


@contextlib.contextmanager
def standing(model: Any) -> Iterator[Any]:
    """A model that stays as it is, as a reference."""
    yield model
