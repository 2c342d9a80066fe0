"""Write a model in a form that other programs read, with a certificate that it is still the same model."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import field_validator

from danlu.core import files, log
from danlu.core.artifact import Artifact, check_out, publish
from danlu.core.errors import UnsupportedModel
from danlu.core.lineage import read
from danlu.core.settings import Named, Settings, choice
from danlu.core.units import size
from danlu.engine.exporters import EXPORTERS
from danlu.stages import STAGES

_LEAST_AGREEMENT = 0.95
_FROM_HF = {
    "gguf": "llama.cpp's convert_hf_to_gguf.py makes a GGUF file from that folder.",
    "ollama": "llama.cpp's convert_hf_to_gguf.py makes a GGUF file from that folder, which Ollama reads.",
    "vllm": "vLLM serves that folder as it is.",
    "transformers": "transformers loads that folder as it is.",
}
"""Forms that others make from, or read as, a Hugging Face folder."""


class Export(Settings):
    """The certificate compares the logits of the written folder with the source's, and with transformers' where it is
    installed; it lies beside the weights as certificate.json."""

    positional = ("model",)

    model: Path
    """Folder of the model."""
    out: Path
    """Folder to write."""
    to: Annotated[Named, choice(EXPORTERS)] = {"name": "hf"}  # type: ignore[assignment]  # noqa: RUF012
    """The form to write."""
    overwrite: bool = False
    """Whether to replace a finished output."""

    @field_validator("to", mode="before")
    @classmethod
    def _made_from_hf(cls, value: Any) -> Any:
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str) and name not in EXPORTERS and name.lower() in _FROM_HF:
            raise ValueError(f"no exporter writes {name} yet. Write --to hf: {_FROM_HF[name.lower()]}")
        return value


@STAGES.register
def export(config: Export) -> Artifact:
    """Write the folder aside, read it back, certify it, give it its name."""
    check_out(config.out, config.overwrite)
    from danlu.engine.folder import model_input
    from danlu.engine.heads import HeadedModel
    from danlu.engine.model import load

    source, exporter = load(config.model, device="cpu"), EXPORTERS.build(config.to)
    if isinstance(source, HeadedModel):
        raise UnsupportedModel(f"{config.model} has a head for {source.task} in place of words. The folder already is in Hugging "
                               f"Face's layout, head included: copy it as it is.")  # fmt: skip
    with publish(config.out, kind="model", stage="export", settings=config, inputs=[model_input(config.model)],
                 overwrite=config.overwrite) as draft:  # fmt: skip
        exporter.write(source, draft.path)
        draft.metrics = certificate(source, exporter.read(draft.path), draft.path)
        files.write_text(draft.path / "certificate.json", json.dumps(draft.metrics, indent=1) + "\n")
        if (config.model / "lineage.json").is_file():
            record = read(config.model)
            draft.licences, draft.sources = list(record.licences), list(record.sources)
        card(config.model, draft.path, draft.metrics)
    log.say(summary(draft.metrics))
    if (worst := agreement(draft.metrics)) < _LEAST_AGREEMENT:
        log.warn(f"the written model's first choice is the source's at only {worst:.1%} of the tokens: measure it before use")
    assert draft.result is not None
    return draft.result


def certificate(source: Any, written: Any, folder: Path) -> dict[str, Any]:
    """Figures of the change: against the source, and against transformers where it is installed."""
    from danlu.evaluate.certificate import PROBE, certify, computed, probe, with_transformers

    ids, asked = probe(source)
    before = computed(source, ids)
    found: dict[str, Any] = {
        "against_source": certify(before, computed(written, ids), asked).figures(),
        "same_ends": sorted(source.ends) == sorted(written.ends),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }
    theirs = with_transformers(folder, ids)
    if theirs is None:
        log.say("transformers is not installed (pip install transformers), or lacks this family: the certificate leaves it out")
    else:
        logits, their_ids = theirs
        begin, text = (0 if source.tokenizer.bos_id is None else 1), source.encode(PROBE)
        found["against_transformers"] = certify(before, logits, asked).figures()
        found["same_tokens_in_transformers"] = their_ids[: len(ids) - begin] == text[begin : len(ids)]
    return found


def agreement(figures: dict[str, Any]) -> float:
    """The lowest agreement on the first choice that the certificate found."""
    return min(part["top1_agreement"] for part in figures.values() if isinstance(part, dict))


def card(source: Path, folder: Path, figures: dict[str, Any]) -> None:
    """The source's card, if there is one, and the certificate in words."""
    old = source / "README.md"
    text = old.read_text(encoding="utf-8") if old.is_file() else f"# {folder.name}\n"
    files.write_text(folder / "README.md", f"{text.rstrip()}\n\n## Certificate of export\n\n{summary(figures)}\n")


def summary(figures: dict[str, Any]) -> str:
    """The certificate in a few lines."""
    lines = []
    for key, whom in (("against_source", "the source"), ("against_transformers", "transformers")):
        if key in figures:
            one = figures[key]
            lines.append(
                f"against {whom}: logits differ by at most {one['largest_difference']:.2e} ({one['relative_difference']:.1e} "
                f"relative), same first choice at {one['top1_agreement']:.2%} of {one['tokens']} tokens, perplexity "
                f"{one['perplexity_before']:.3f} -> {one['perplexity_after']:.3f}"
            )
    return "\n".join([*lines, f"{size(figures['bytes'])} on disk"])
