"""Make a model smaller, with a receipt that says what it cost on text the model has not seen."""

import contextlib
import io
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from danlu.compress import QUANTISERS
from danlu.core import files, lineage, log
from danlu.core.artifact import Artifact, check_out, publish
from danlu.core.errors import BadSettings, UnsupportedModel
from danlu.core.lineage import Input, raw_input
from danlu.core.settings import Named, Settings, choice
from danlu.core.units import size
from danlu.stages import STAGES
from danlu.stages.unseen import unseen

_NAME = "receipt.json"
_DEAR = 1.05
"""Perplexity that grows beyond this is warned of."""


class Compress(Settings):
    """No receipt, no model: the receipt lies beside the weights as receipt.json, and its figures stand on the card."""

    positional = ("model",)

    model: Path
    """Folder of the model."""
    out: Path
    """Folder to write."""
    method: Annotated[Named, choice(QUANTISERS)] = {"name": "int8"}  # type: ignore[assignment]  # noqa: RUF012
    """How."""
    text: list[Path] = Field([])
    """Text files for the receipt that the model was not trained on; left out, the held-out part of its own data set."""
    tokens: int = Field(20_000, ge=256)
    """Most tokens of that text to read; more make the receipt surer and take longer."""
    overwrite: bool = False
    """Whether to replace a finished output."""


@STAGES.register
def compress(config: Compress) -> Artifact:
    """Write the folder aside, read it back, measure what changed, give it its name."""
    check_out(config.out, config.overwrite)
    from danlu.compress.speed import measured, runner_of
    from danlu.engine.folder import model_input
    from danlu.engine.model import load
    from danlu.evaluate.receipt import receipts, through_model, through_runner

    source = load(config.model, device="cpu")
    refuse(source)
    texts, told = held_out(config)
    with publish(config.out, kind="model", stage="compress", settings=config, inputs=[model_input(config.model), *told],
                 overwrite=config.overwrite) as draft:  # fmt: skip
        done = QUANTISERS.build(config.method).write(source.model, draft.path)
        keep(source, draft.path)
        small = load(draft.path, device="cpu")
        small.both_ways = source.both_ways
        runner = runner_of(small)
        whole = through_model(small)
        served = whole if runner.whole_prompts else through_runner(runner)  # what reads prompts both ways would see the answers
        ways = {"held_out": whole, "held_out_as_served": served}
        draft.metrics = {
            "method": config.method.model_dump(mode="json"), **done, **weigh(config.model, draft.path),
            **receipts(source, ways, texts, config.tokens),
            "tokens_per_s": measured(source, small, runner=runner), **elsewhere(small, draft.path),
            "both_ways": source.both_ways,
        }  # fmt: skip
        files.write_text(draft.path / _NAME, json.dumps(draft.metrics, ensure_ascii=False, indent=1) + "\n")
        if (config.model / lineage.NAME).is_file():
            record = lineage.read(config.model)
            draft.licences, draft.sources = list(record.licences), list(record.sources)
        card(config.model, draft.path, draft.metrics)
    log.say(summary(draft.metrics))
    if left := [name for name in done["whole"] if name.endswith("proj.weight")]:
        log.warn(
            f"groups do not divide the inputs of {len(left)} matrices ({left[0]}, ...), which stay in 16 bits; see receipt.json"
        )
    if draft.metrics["held_out_as_served"]["perplexity_ratio"]["value"] > _DEAR:
        log.warn("that is more than a twentieth more perplexity: try --method.name int8")
    assert draft.result is not None
    return draft.result


def refuse(source: Any) -> None:
    """Raise UnsupportedModel, or BadInput, for models that a receipt cannot speak of, and for those that are small already."""
    from danlu.engine.heads import HeadedModel
    from danlu.models import packed
    from danlu.models.base import CausalLM
    from danlu.models.weights import read_config

    if isinstance(source, HeadedModel):
        raise UnsupportedModel(
            f"{source.path} has a head for {source.task} in place of words, and the receipt measures words. Compress the model "
            f"that it was made from, and fine-tune anew."
        )
    if source.model.counted or not isinstance(source.model, CausalLM):
        raise UnsupportedModel(
            f"{source.path} ({source.model.config.name}) does not write a text on by weights, and that is what the receipt "
            f"measures. `danlu export --to.dtype bfloat16` halves it without one."
        )
    if packed.KEY in read_config(source.path):
        raise UnsupportedModel(f"{source.path} is in small integers already. Compress the model that it was made from.")


def held_out(config: Compress) -> tuple[list[Any], list[Input]]:
    """Texts for the receipt and what to record about them. Raises BadSettings where nothing leads to any."""
    from danlu.evaluate.text import read_texts

    if config.text:
        return read_texts(config.text), [raw_input("text", path) for path in config.text]
    found, place, record = unseen(config.model, config.tokens)
    if place is not None and record is not None:
        return found, [Input(role="held-out text", id=record.id, path=str(place.resolve()))]
    raise BadSettings(
        f"nothing leads from {config.model} to text that it has not seen, and a smaller model without a receipt is a guess. "
        f"Give --text FILE... with text like that which it will meet."
    )


def keep(source: Any, folder: Path) -> None:
    """Tokenizer, chat template and what the source says about generation."""
    source.tokenizer.save(folder)
    old = source.path / "generation_config.json"
    if old.is_file():
        files.write_text(folder / old.name, old.read_text(encoding="utf-8"))


def weigh(before: Path, after: Path) -> dict[str, int]:
    """Bytes of the weights on disk."""

    def total(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    return {"weight_bytes_before": total(before), "weight_bytes_after": total(after)}


def elsewhere(small: Any, folder: Path) -> dict[str, Any]:
    """Whether transformers computes the same from the folder, where it is installed with what it needs to read it."""
    from danlu.core.machine import version
    from danlu.evaluate.certificate import certify, computed, probe, with_transformers
    from danlu.models import packed
    from danlu.models.weights import read_config

    if packed.KEY in read_config(folder) and version("compressed-tensors") is None:
        log.say("compressed-tensors is not installed, so whether transformers reads the folder alike was not checked")
        return {}
    ids, asked = probe(small)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            theirs = with_transformers(folder, ids)
    except (RuntimeError, AttributeError, ValueError, KeyError, TypeError, ImportError) as error:
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        log.warn(f"transformers does not read this form of {small.model.config.name} ({why}); Danlu does")
        return {"transformers_refuses": why}
    return {} if theirs is None else {"against_transformers": certify(computed(small, ids), theirs[0], asked).figures()}


def card(source: Path, folder: Path, figures: dict[str, Any]) -> None:
    """The source's card, if there is one, and the receipt in words."""
    old = source / "README.md"
    text = old.read_text(encoding="utf-8") if old.is_file() else f"# {folder.name}\n"
    files.write_text(folder / "README.md", f"{text.rstrip()}\n\n## Receipt of compression\n\n{summary(figures)}\n")


def summary(figures: dict[str, Any]) -> str:
    """The receipt in a few lines."""
    cost, rates = figures["held_out"], figures["tokens_per_s"]
    change, times = cost["bits_per_byte_change"], cost["perplexity_ratio"]
    old, new = (size(figures[f"weight_bytes_{when}"]) for when in ("before", "after"))
    served = figures["held_out_as_served"]["bits_per_byte_change"]
    lines = [
        f"{figures['method']['name']}: {old} of weights -> {new}",
        f"bits per byte {cost['bits_per_byte_before']['value']:.4f} -> {cost['bits_per_byte_after']['value']:.4f}: "
        f"{change['value']:+.4f}{error(change)} on {cost['tokens']:,} tokens of text it has not seen",
        f"as it is served here, where what meets the weights may be rounded too: {served['value']:+.4f}{error(served)}",
        f"perplexity x {times['value']:.4f}{error(times)}, divergence {cost['divergence']['value']:.5f} nats a token, same first "
        f"choice at {cost['top1_agreement']['value']:.2%}",
        f"{rates['before']['median']:.0f} -> {rates['after']['median']:.0f} tokens a second for one answer "
        f"({rates['before']['kernel']} -> {rates['after']['kernel']})",
    ]
    if "against_transformers" in figures:
        theirs = figures["against_transformers"]
        lines.append(f"transformers computes the same from this folder: logits differ by {theirs['relative_difference']:.1e} of "
                     f"the largest")  # fmt: skip
    if "transformers_refuses" in figures:
        lines.append(f"transformers does not read this form of the family ({figures['transformers_refuses']}); Danlu does")
    return "\n".join(f"- {line}" for line in lines)


def error(estimate: dict[str, Any]) -> str:
    """A standard error in words, where there is one."""
    return "" if estimate["standard_error"] is None else f" ± {estimate['standard_error']:.4f}"
