"""What `danlu pretrain` leaves, however the model came to be: a folder with weights, tokenizer, record and card."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from danlu.core import files
from danlu.core.artifact import Artifact, Draft, open_artifact, publish
from danlu.objectives import OBJECTIVES
from danlu.stages import fitting, start

if TYPE_CHECKING:
    from danlu.tokenizer.tokenizer import Tokenizer


@contextmanager
def finished(
    config: Any, dataset: Artifact, model: Any, tokenizer: "Tokenizer", *, ledger: dict[str, Any], metrics: dict[str, Any],
    seconds: float,
) -> Iterator[Draft]:  # fmt: skip
    """The folder while it is written; the caller adds the report. seconds: what training took."""
    from danlu.models.weights import save_model
    from danlu.train.card import write_card

    inputs = [dataset.as_input("dataset")]
    inputs += [start.as_input(config.init)] if config.init else []
    inputs += [open_artifact(config.replay, "dataset").as_input("replay")] if config.replay else []
    inputs += [open_artifact(config.tokenizer).as_input("tokenizer")] if config.tokenizer else []
    with publish(config.out, kind="model", stage="pretrain", settings=config, inputs=inputs, overwrite=config.overwrite) as draft:
        save_model(model, draft.path)
        tokenizer.save(draft.path)
        draft.ledger, draft.metrics, draft.seeds, draft.wall_s = ledger, metrics, {"seed": config.seed}, seconds
        draft.licences, draft.sources = start.records(config.init, dataset)
        family, objective = model.config.name, config.objective.name
        facts = {"family": family, "parameters": metrics["parameters"], "vocab_size": model.config.vocab_size,
                 "context": model.config.context, "objective": objective, "unit": OBJECTIVES[objective].unit,
                 "kinds": fitting.kinds(family), "mask": tokenizer.mask_token,
                 "own": model.config.hf_type.startswith("danlu_")}  # fmt: skip
        card = write_card(config.out.name, facts=facts, metrics=metrics, ledger=ledger, settings=config.model_dump(mode="json"),
                          licences=draft.licences, sources=draft.sources)  # fmt: skip
        files.write_text(draft.path / "README.md", card)
        yield draft
