"""What objectives share that learn from the model's own answers: an answer is credited, and its tokens become likelier or less.

train/rollout.py has the answers written, rewarded and packed; an objective here says what each token is to be credited with
(`credit`, once for all answers of a roll-out) and what is minimised (`loss_terms`, at every step). A answers, M tokens of all of
them one behind another, N tokens of a batch, P prompts, T tokens of a row.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from danlu.core.errors import BadInput
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives.answers import Answers, messages_of, place_of, tools_of
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Overlong, TooLong

Share = Literal["sequence", "token", "constant"]


@dataclass
class RolloutBatch(Batch):
    """A batch of answers behind their prompts; what stands beside a token is about the target there, (B, T) each."""

    answers: Tensor | None = None
    """int64: which answer of the roll-out the target belongs to; -1 where there is none."""
    weights: Tensor | None = None
    """float32: what the target counts; without left-out answers they add up to the targets of the step, in sum or on the
    whole."""
    advantages: Tensor | None = None
    """float32: what it is credited with."""
    drawn: Tensor | None = None
    """float32: its log-probability by the engine, as it was drawn."""
    old: Tensor | None = None
    """float32: the same by the module before the first step of the roll-out; absent where that is the step itself."""
    reference: Tensor | None = None
    """float32: the same by the reference model."""
    values: Tensor | None = None
    """float32: what the value head foretold before it."""
    returns: Tensor | None = None
    """float32: what it came to."""


@dataclass
class Rolled:
    """What a roll-out is credited by: the answers to a prompt stand side by side."""

    group: int
    """Answers to a prompt."""
    rewards_A: Tensor
    """float32."""
    lengths_A: Tensor
    """int64: tokens of each answer."""
    old_M: Tensor | None = None
    reference_M: Tensor | None = None
    values_M: Tensor | None = None

    @property
    def answers_M(self) -> Tensor:
        """The answer of each token."""
        return torch.repeat_interleave(torch.arange(len(self.lengths_A)), self.lengths_A)

    @property
    def last_A(self) -> Tensor:
        """Places of the last tokens among all."""
        return self.lengths_A.cumsum(0) - 1


@dataclass
class Credit:
    """What the tokens of a roll-out have earned."""

    advantages_M: Tensor
    returns_M: Tensor | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """What the report shows of it."""
    state: dict[str, float] = field(default_factory=dict)
    """What the next roll-out must know of this one and those before."""


@dataclass
class Told:
    """The tokens of a batch that are answers, as a loss wants them; (N,) each."""

    new: Tensor
    """Log-probabilities now, with a gradient."""
    weights: Tensor
    advantages: Tensor
    answers: Tensor
    drawn: Tensor
    old: Tensor
    """As before the first step of the roll-out; `new` without its gradient where that is now."""
    reference: Tensor | None = None
    values: Tensor | None = None
    returns: Tensor | None = None


class Policy(Answers):
    """Base of the objectives over the model's own answers to prompts. temperature: that of the roll-outs."""

    stage = "align"
    online = True
    columns = (("prompt", "answer"), ("prompt",))
    pace: ClassVar[float] = 0.3
    rewarded: ClassVar[bool] = True
    """Whether it learns from what answers are worth; others may still report it."""
    valued: ClassVar[bool] = False
    """Whether it needs a value head (models/valued.py)."""

    class Config(Named):
        """What every objective over the model's own answers can be told."""

        clip: float = Field(0.2, gt=0)
        """How far the ratio of new to old probability may fall below 1 before a token stops pulling."""
        clip_high: float | None = Field(None, gt=0)
        """How far it may rise above 1; None: as far as `clip` says. DAPO: 0.28, so that rare tokens can grow."""

    def __init__(self, config: Named, tokenizer: Any = None):
        super().__init__(config, tokenizer)
        self.temperature = 1.0
        self._seen: dict[str, float] = {}

    @property
    def share(self) -> Share:
        """What a token counts; see `token_weights`."""
        return "token"

    @property
    def pull(self) -> float:
        """How strongly it is held to the reference model; 0: not at all, and no reference is computed."""
        return float(self.config.kl)

    @property
    def needs_old(self) -> bool:
        """Whether credit is given by log-probabilities of the module at the time of the roll-out."""
        return False

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        """The prompt as serving would send it; nothing is asked for before it is answered. frame.most: what leaves room for
        it."""
        from danlu.tokenizer.chat import encode_chat

        assert self.tokenizer is not None
        template = self.tokenizer.chat_template
        assert template is not None
        try:
            ids = encode_chat(self.tokenizer, template, messages_of(document, "prompt"), tools_of(document))
        except BadInput as error:
            raise BadInput(f"{place_of(document)}: {error.args[0]}") from None
        if len(ids) > frame.most:
            raise TooLong(len(ids))
        nothing = np.full(len(ids), NO_LABEL, np.int64)
        return [Encoded(np.array(ids, np.int64), nothing, np.zeros(len(ids), np.float32), np.zeros(len(ids), np.int32))]

    @abstractmethod
    def credit(self, rolled: Rolled, state: Mapping[str, float]) -> Credit:
        """What each token of a roll-out has earned. state: of the roll-out before; empty for the first."""

    def start(self) -> dict[str, float]:
        """The state before the first roll-out."""
        return {}

    @abstractmethod
    def loss_terms(self, told: Told) -> Tensor:
        """The sum of what is minimised over a batch, each token weighed by `told.weights`."""

    def more_loss(self, model: Any, told: Told, hidden_BTD: Tensor, batch: RolloutBatch) -> Tensor | None:
        """What a value head or a bonus adds to it; None: nothing."""
        return None

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        assert isinstance(batch, RolloutBatch)
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        chosen_BT = batch.targets != NO_LABEL
        new_N, entropy_N = model.token_logprobs_and_entropy(hidden_BTD[chosen_BT], batch.targets[chosen_BT], self.temperature)
        told = tell(batch, new_N, chosen_BT)
        loss = self.loss_terms(told)
        more = self.more_loss(model, told, hidden_BTD, batch)
        if torch.is_grad_enabled():
            self.note(told, entropy_N)
        return loss if more is None else loss + more

    # ---- what is reported of a step

    def note(self, told: Told, entropy_N: Tensor) -> None:
        """Add a batch to the figures of the step, as sums over its tokens."""
        new, low, high = told.new.detach(), *bounds(self.config)
        moved = new - told.old
        ratio = moved.exp()
        clipped = ((ratio < 1 - low) & (told.advantages < 0)) | ((ratio > 1 + high) & (told.advantages > 0))
        found = {"tokens": torch.ones_like(new), "entropy": entropy_N, "clipped": clipped.float(), "moved": moved.abs(),
                 "stale": (new - told.drawn).abs()}  # fmt: skip
        if told.reference is not None:
            found["kl"] = k3(new, told.reference)
        self.add({name: float(part.sum()) for name, part in found.items()})

    def add(self, found: Mapping[str, float]) -> None:
        """Add to the figures of the step."""
        for name, value in found.items():
            self._seen[name] = self._seen.get(name, 0.0) + value

    def seen(self) -> dict[str, float]:
        """The sums since the last call."""
        found, self._seen = self._seen, {}
        return found


def tell(batch: RolloutBatch, new_N: Tensor, chosen_BT: Tensor) -> Told:
    """The answers' tokens of a batch."""
    found = {one.name: getattr(batch, one.name) for one in fields(Told) if one.name != "new"}
    told = {name: None if part is None else part[chosen_BT] for name, part in found.items()}
    if told["old"] is None:
        told["old"] = new_N.detach()
    return Told(new=new_N, **told)


def bounds(config: Any) -> tuple[float, float]:
    """How far a ratio may go below and above 1."""
    return config.clip, config.clip if config.clip_high is None else config.clip_high


def surrogate(new: Tensor, old: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """The clipped surrogate to be minimised, of log-probabilities (PPO, arXiv:1707.06347, eq. 7).

    >>> new, old = torch.tensor([1.5, 1.5, 0.5, 0.5]).log(), torch.zeros(4)
    >>> surrogate(new, old, torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.2, 0.3)
    tensor([-1.3000,  1.5000, -0.5000,  0.8000])
    """
    ratio = (new - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def k3(new: Tensor, reference: Tensor) -> Tensor:
    """An estimate of the divergence KL(new || reference) from tokens drawn from `new`: never negative, right on average.

    Source: Schulman, "Approximating KL divergence" (2020), k3; DeepSeekMath (arXiv:2402.03300), eq. 4.

    >>> k3(torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.25]).log())
    tensor([0.1931, 0.0000])
    """
    gap = reference - new
    return gap.exp() - gap - 1


def token_weights(share: Share, lengths_A: Tensor, counted_A: Tensor, most: int) -> Tensor:
    """What each token of an answer counts, (A,), so that the sum over tokens by the number of tokens is the wanted mean.

    sequence: the mean over answers of the mean over their tokens (GRPO). token: the mean over all tokens (DAPO). constant: the
    sum over `most` tokens an answer, however long it is (Dr. GRPO). Answers that are not counted weigh nothing; under `token`
    they are not among the tokens either.

    >>> lengths, all_of_them = torch.tensor([1, 3]), torch.tensor([True, True])
    >>> [token_weights(share, lengths, all_of_them, 4).tolist() for share in ("sequence", "token", "constant")]
    [[2.0, 0.6666666865348816], [1.0, 1.0], [0.5, 0.5]]
    """
    tokens = lengths_A.sum()
    if share == "sequence":
        found = tokens / (len(lengths_A) * lengths_A)
    elif share == "token":
        found = (tokens / (lengths_A * counted_A).sum().clamp(min=1)).expand(len(lengths_A))
    else:
        found = (tokens / (len(lengths_A) * most)).expand(len(lengths_A))
    return found.float() * counted_A


def sums(values_N: Tensor, answers_N: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of each answer of a batch, and to which of the sums a token belongs."""
    _, place_N = answers_N.unique(return_inverse=True)
    return values_N.new_zeros(int(place_N.max()) + 1).index_add(0, place_N, values_N), place_N
