"""What a watcher is: something that looks on while a run goes and never changes what is learned.

Events that watchers and the loop write to the log (`OUT.run/events.jsonl`), and that reports read; `step` counts the steps
done when the event was written:

- plan: reasons (lines of text), and every figure of the plan
- step: step, tokens (of text, so far), loss (nats a target), grad_norm (before clipping), lr, tokens_per_s, seconds (of the
  run), memory_bytes (peak), mfu (part of the measured matmul peak; absent where none was measured)
- heldout: step, tokens, loss (nats a target), unit (what a target is), bits_per_byte (absent where the objective's nats are not
  those of the text), the objective's own figures (accuracy, ...), seconds, documents, targets
- sample: step, prompt, text
- rollout: step (of the first step that learns from it), rollout (its number), reward and reward_std (of the weighted sums),
  reward_NAME and reward_NAME_std (of each reward), length (tokens of an answer), stopped and cut (parts of the answers that ended
  by themselves, or ran out of tokens), dull (part of the prompts whose answers are all worth the same), replaced (prompts that
  further rounds took the place of), rounds, engine_gap (mean nats between a token's log-probability by the engine and by the
  module), kl (to the reference model, a token), kl_of_answer and kl_cost and value_explained (ppo), seconds, tokens_per_s
- policy: step, age (steps since the roll-out), and means over the answers' tokens: entropy, clipped (part that is clipped), moved
  (nats from the roll-out's module), stale (nats from the engine's draw), kl (to the reference model), value_loss (ppo)
- answer: step, prompt, text, reward, ended
- judged: step, answers (held-out prompts answered greedily), reward, reward_error (standard), reward_NAME, length, stopped
- experts: step, share (for each sparse layer the part of its tokens that each expert got since the last such event)
- guard: step, reason, loss, grad_norm, action, culprit (file:line and document), culprit_loss
- checkpoint: step, path
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danlu.train.loop import Run


@dataclass(frozen=True)
class StepFacts:
    """One step as it was: `step` steps are done now; `seconds` and `tokens` are of this step alone."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    tokens: int
    seconds: float
    sick: bool = False


@dataclass(frozen=True)
class Tools:
    """What a stage lends to watchers; None where there is nothing to lend."""

    heldout: Any = None
    """Callable `(model-scoring function) -> figures`; see heldout.py."""
    generate: Any = None
    """Callable `(prompt, tokens, seed) -> text` with the model as it is now; None where the model is sharded."""
    prompts: tuple[str, ...] = ()
    """Openings of held-out documents."""
    flops_per_token: float = 0.0
    peak_flops: float = 0.0
    """Measured matmul peak, FLOP/s; 0 where it was not measured."""


def due(step: int, steps: int, times: int) -> bool:
    """Is `step` one of `times` moments spread evenly over `steps`, the last step among them?

    >>> [step for step in range(1, 8) if due(step, 7, 3)]
    [3, 5, 7]
    """
    return step * times // steps > (step - 1) * times // steps


class Watcher:
    """Override what you need."""

    def __init__(self, config: Any, tools: Tools):
        self.config, self.tools = config, tools

    def start(self, run: "Run") -> None:
        """Before the first step of this attempt."""

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        """After each step, in every process."""

    def finish(self, run: "Run") -> None:
        """After the last step."""
