"""Merge an adapter into its base: one model folder, with a certificate that it computes what the two computed together."""

import json
from pathlib import Path
from typing import Any

from danlu.core import files, lineage, log
from danlu.core.artifact import Artifact, check_out, publish
from danlu.core.errors import NotAnArtifact
from danlu.core.settings import Settings
from danlu.stages import STAGES

_LEAST_AGREEMENT = 0.999


class Merge(Settings):
    """Merging changes no answer but by rounding: the certificate compares the logits of the folder that was written with those
    of base and adapter, and with transformers' where it is installed. A base in 8 or 4 bits becomes float first, so that the
    changes lie on the weights that they were learned beside."""

    positional = ("adapter",)

    adapter: Path
    """Folder of the adapter: of `danlu finetune --adapter` or `danlu align --adapter`, or one that PEFT saved."""
    out: Path
    """Model folder to write."""
    base: Path | None = None
    """Folder of the base; left out: where the adapter says it is."""
    another: bool = False
    """Whether the base may be another one than the adapter was trained over."""
    overwrite: bool = False
    """Whether to replace a finished output."""


@STAGES.register
def merge(config: Merge) -> Artifact:
    """Lay the adapter on its base, keep what the two compute, merge, write, read back, compare."""
    check_out(config.out, config.overwrite)
    from danlu.engine.adapted import lay
    from danlu.engine.folder import model_input
    from danlu.engine.heads import save_headed
    from danlu.engine.model import load, opened
    from danlu.models.adapters import base as adapters
    from danlu.models.adapters.peft import is_adapter
    from danlu.models.heads import Headed
    from danlu.models.weights import save_model

    if not is_adapter(config.adapter):
        raise NotAnArtifact(f"{config.adapter} is no adapter: it holds no adapter_config.json, or a whole model beside it. Give "
                            f"the --out of `danlu finetune --adapter lora`, or a folder that PEFT saved.")  # fmt: skip
    laid = lay(config.adapter, config.base, config.another)
    if laid.held:
        log.say(f"the base is held in {laid.held}: it is made float first, as the adapter met it while it learned")
    inputs = [model_input(laid.base), model_input(config.adapter, "adapter")]
    with publish(config.out, kind="model", stage="merge", settings=config, inputs=inputs, overwrite=config.overwrite) as draft:
        source = opened(config.adapter, laid, merged=False)
        ids, asked = _probe(source)
        before, ends = _computed(source, ids), getattr(source, "ends", None)
        adapters.merge(laid.model)
        if isinstance(laid.model, Headed):
            save_headed(laid.model, laid.tokenizer, draft.path)
        else:
            save_model(laid.model, draft.path)
            laid.tokenizer.save(draft.path)
            _keep_generation(laid.base, draft.path, laid.tokenizer.eos_id)
        written = load(draft.path, device="cpu")
        draft.metrics = _certificate(before, written, ids, asked, draft.path) | {
            "base_was": laid.held or "float", "same_ends": ends == getattr(written, "ends", None)
        }  # fmt: skip
        files.write_text(draft.path / "certificate.json", json.dumps(draft.metrics, indent=1) + "\n")
        for folder in (config.adapter, laid.base):
            if (folder / lineage.NAME).is_file() and not draft.sources:
                record = lineage.read(folder)
                draft.licences, draft.sources = list(record.licences), list(record.sources)
        _card(config, laid.base, draft.path, draft.metrics)
    log.say(_summary(draft.metrics))
    if draft.metrics["against_adapter"]["top1_agreement"] < _LEAST_AGREEMENT:
        log.warn("the merged model's first choice is not always that of base and adapter: measure it before use")
    assert draft.result is not None
    return draft.result


def _probe(model: Any) -> tuple[list[int], list[int]]:
    """Ids of the probe, and what each place asks for: nothing, where a task's head answers."""
    from danlu.core.labels import NO_LABEL
    from danlu.engine.model import Model
    from danlu.evaluate.certificate import PROBE, probe

    if isinstance(model, Model):
        return probe(model)
    ids = model.tokenizer.encode(PROBE)[: model.context]
    return ids, [NO_LABEL] * len(ids)


def _computed(model: Any, ids: list[int]) -> Any:
    """Logits (T, V) of the probe, or the scores of a head, or the vectors of an embedding, at each token."""
    import torch

    from danlu.engine.model import Model
    from danlu.evaluate.certificate import computed

    if isinstance(model, Model):
        return computed(model, ids)
    with torch.inference_mode():
        hidden_TD = model.model.eval().hidden(torch.tensor([ids]))[0]
        return model.model.scores(hidden_TD) if model.model.head is not None else hidden_TD.float()


def _certificate(before: Any, written: Any, ids: list[int], asked: list[int], folder: Path) -> dict[str, Any]:
    """Figures of the change: against base and adapter, and against transformers where it computes the family."""
    from danlu.engine.model import Model
    from danlu.evaluate.certificate import certify, with_transformers

    after = _computed(written, ids)
    found: dict[str, Any] = {"against_adapter": certify(before, after, asked).figures()}
    found["bytes"] = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    if isinstance(written, Model) and not written.model.config.hf_type.startswith("danlu_"):
        theirs = with_transformers(folder, ids)
        if theirs is not None:
            found["against_transformers"] = certify(before, theirs[0], asked).figures()
    return found


def _keep_generation(base: Path, folder: Path, end: int | None) -> None:
    """What the base says about generation; the tokenizer's end of an answer ends one too."""
    name = "generation_config.json"
    if not (base / name).is_file():
        return
    said = json.loads((base / name).read_text(encoding="utf-8"))
    listed = said.get("eos_token_id")
    ends = sorted({one for one in [*(listed if isinstance(listed, list) else [listed]), end] if one is not None})
    if ends:
        said["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    files.write_text(folder / name, json.dumps(said, indent=2) + "\n")


def _card(config: Merge, base: Path, folder: Path, figures: dict[str, Any]) -> None:
    """The adapter's card, or the base's, and the certificate in words."""
    cards = [place / "README.md" for place in (config.adapter, base)]
    text = next((card.read_text(encoding="utf-8") for card in cards if card.is_file()), f"# {config.out.name}\n")
    said = f"{config.adapter.name} merged into {base.resolve().name}.\n\n{_summary(figures)}"
    files.write_text(folder / "README.md", f"{text.rstrip()}\n\n## Certificate of the merge\n\n{said}\n")


def _summary(figures: dict[str, Any]) -> str:
    """The certificate in a few lines."""
    from danlu.core.units import size

    lines = []
    for key, whom in (("against_adapter", "base and adapter"), ("against_transformers", "the same in transformers")):
        if key in figures:
            one = figures[key]
            lines.append(f"against {whom}: logits differ by at most {one['largest_difference']:.2e} "
                         f"({one['relative_difference']:.1e} relative), same first choice at {one['top1_agreement']:.2%} of "
                         f"{one['tokens']} tokens")  # fmt: skip
    return "\n".join([*lines, f"the base was held in {figures['base_was']}; {size(figures['bytes'])} on disk"])
