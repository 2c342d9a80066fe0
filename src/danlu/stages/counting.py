"""What `danlu pretrain` does for a family that is counted rather than trained: one reading of the text, then the artefact."""

from typing import TYPE_CHECKING, Any

from danlu.core import log
from danlu.core.artifact import Artifact
from danlu.core.errors import BadSettings
from danlu.stages.finished import finished

if TYPE_CHECKING:
    from danlu.data.tokens import TokenSet
    from danlu.tokenizer.tokenizer import Tokenizer

_OF_TRAINING = ("steps", "optimiser", "schedule", "row_tokens", "batch_rows", "micro_rows", "max_norm", "dtype", "compile",
                "recompute", "parallel", "guard")  # fmt: skip
"""Settings that mean nothing where no weight moves."""
_SAMPLE_TOKENS = 60


def check(config: Any) -> None:
    """Raise BadSettings for settings that would be without effect; say what a budget means here."""
    given = [f"--{name}" for name in _OF_TRAINING if name in config.model_fields_set]
    if given:
        raise BadSettings(
            f"--model.name {config.model.name} is counted, not trained: {', '.join(given)} would change nothing. Leave "
            f"{'it' if len(given) == 1 else 'them'} out."
        )
    if config.objective.name != "causal":
        raise BadSettings(
            f"--model.name {config.model.name} counts which token follows which: --objective.name {config.objective.name} is "
            f"for families that are trained. Leave it out."
        )
    if "budget" in config.model_fields_set and config.budget.unit != "tokens":
        log.say(f"counting reads the whole text once, however long {config.budget} is; a budget in tokens takes a share of it")


def count(config: Any, dataset: Artifact, tokenizer: "Tokenizer", tokens: "dict[str, TokenSet | None]") -> Artifact:
    """Count, score, publish."""
    from danlu.train import count as counting
    from danlu.train.live import prompts, writer

    train_tokens, heldout = tokens["train"], tokens["validation"]
    assert train_tokens is not None
    special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    wide = config.model.model_fields_set & {"vocab_size"}
    vocab_size = max(tokenizer.vocab_size, config.model.vocab_size if wide else 0)
    settings = config.model.model_copy(update={"vocab_size": vocab_size, **special})
    most = int(config.budget.amount) if config.budget.unit == "tokens" else None
    done = counting.train(settings, train_tokens, heldout, most=most, seed=config.seed)
    log.say(told(done))
    write = writer(done.model, tokenizer)
    openings = prompts(done.model, tokenizer, heldout, done.model.config.context) if heldout else ()
    samples = {opening: write(opening, _SAMPLE_TOKENS, config.seed) for opening in openings}
    ledger = counting.ledger(done, train_tokens, heldout)
    with finished(config, dataset, done.model, tokenizer, ledger=ledger, metrics=done.metrics(), seconds=done.seconds) as draft:
        counting.report(draft.path, done, title=f"Counts of {config.out.name}", samples=samples,
                        settings=config.model_dump(mode="json"), ledger=ledger, inputs=draft.inputs)  # fmt: skip
    assert draft.result is not None
    return draft.result


def told(done: Any) -> str:
    """One line about what was counted."""
    scored = f"; held out: {done.heldout['bits_per_byte']:.4f} bits per byte" if done.heldout else ""
    kinds = ", ".join(f"{entries:,} of {number}" for number, entries in enumerate(done.model.config.ngrams, 2))
    return f"counted {done.tokens:,} tokens in {done.seconds:.1f} s: {kinds or 'single tokens'}{scored}"
