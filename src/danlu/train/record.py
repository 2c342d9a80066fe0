"""What a run leaves for the record: its figures, and where every token or every sample went."""

from collections.abc import Mapping
from typing import Any

from danlu.core import log
from danlu.data.tokens import TokenSet
from danlu.train.loop import Run
from danlu.train.samples import Samples


def metrics(run: Run, model: Any, heldout: tuple[str, ...] = ()) -> dict[str, Any]:
    """Headline figures of the run. heldout: what beside the held-out loss is told, where it was measured."""
    done = run.done
    found = {"parameters": sum(part.numel() for part in model.parameters()), "steps": run.step, "tokens": done.tokens,
             "seconds": round(run.seconds, 3), "tokens_per_s": done.tokens / max(run.seconds, 1e-9)}  # fmt: skip
    if done.taken:
        found["weights_of_step"] = done.taken
    if done.heldout:
        found["heldout_loss"] = done.heldout["loss"]
        found |= {name: done.heldout[name] for name in heldout if name in done.heldout}
    return found


def judged(run: Run) -> dict[str, Any]:
    """How held-out prompts were answered first and last, where the run's own answers were learned from."""
    found = [event for event in log.read_events(run.folder / "events.jsonl") if event["kind"] == "judged"] if run.folder else []
    ends = {"before": found[0], "after": found[-1]} if found else {}
    told: dict[str, Any] = {f"{name}_{when}": value for when, one in ends.items() for name, value in one.items()
                            if name not in ("time", "kind", "step", "answers", "reward_error")}  # fmt: skip
    for when, one in ends.items():
        error = 1.96 * one["reward_error"]
        told[f"reward_{when}"] = {"value": one["reward"], "low": one["reward"] - error, "high": one["reward"] + error}
    return told


def token_ledger(run: Run, tokens: Mapping[str, TokenSet | None]) -> dict[str, Any]:
    """Where every token went. stored = learnable + one opening token a document; served = trained_on + left_out; where an
    objective asks for some tokens only, `targets` are those of trained_on that it asked for; where the weights are not those of
    the last step, `behind_the_weights` are those of trained_on that came before them."""
    stored, packer, done = tokens["train"], run.batches.packer, run.done
    assert stored is not None
    served = done.tokens + done.left_out_tokens
    old_rows = packer.old_before(run.step * run.batches.rows) if tokens.get("replay") is not None else 0
    new = served - old_rows * packer.row_tokens
    ledger: dict[str, Any] = {
        "tokens": {
            "documents": len(stored), "stored": stored.tokens, "learnable": packer.pairs_per_epoch, "served": served,
            "trained_on": done.tokens, "left_out": done.left_out_tokens, "epochs": round(new / packer.pairs_per_epoch, 6),
        },
        "train_sources": stored.by_source(),
    }  # fmt: skip
    if done.taken:
        ledger["tokens"]["behind_the_weights"] = int(done.best["tokens"])
    if done.targets != done.tokens:
        ledger["tokens"]["targets"] = done.targets
    if (old := tokens.get("replay")) is not None:
        ledger["replay"] = {"documents": len(old), "stored": old.tokens, "rows": old_rows, "served": old_rows * packer.row_tokens}
        ledger["replay_sources"] = old.by_source()
    if (heldout := tokens["validation"]) is not None:
        ledger["validation_sources"] = heldout.by_source()
    return ledger


def sample_ledger(run: Run, samples: Mapping[str, Samples]) -> dict[str, Any]:
    """Where every sample went: samples = dropped + those with parts; parts = samples that were trained on, an epoch."""
    made: Any = run.batches
    left_out = run.done.left_out_steps
    served = (run.step - left_out) * made.size_of_step
    return {
        **{split: dict(part.ledger) for split, part in samples.items()},
        **({"rollouts": made.totals(run.step)} if hasattr(made, "totals") else {}),
        "training": {"served": served, "epochs": round((run.step - left_out) / made.steps_per_epoch, 6),
                     "tokens": run.done.tokens, "left_out_steps": left_out},
    }  # fmt: skip
