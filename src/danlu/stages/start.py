"""Where a run of `danlu pretrain` starts: from nothing, or with the weights, sizes and tokenizer of a model folder (--init).

Continued training may change what costs no weight its place: rotary scaling, the context, windows, caps.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from danlu.core import lineage
from danlu.core.artifact import Artifact, open_artifact
from danlu.core.errors import BadSettings, TokenizerMismatch, UnsupportedModel
from danlu.core.lineage import Input
from danlu.models import MODELS

if TYPE_CHECKING:
    from danlu.core.settings import Named
    from danlu.models.base import LanguageModel
    from danlu.models.config import ModelConfig

GENTLER = 0.3
"""Rates of a continued run over those of a new one, where they are not given."""


def family(folder: Path) -> str:
    """Name of the family in a model folder. Raises NotAnArtifact or UnsupportedModel."""
    from danlu.models.weights import family_of, read_config

    return str(family_of(read_config(folder), folder).Config.model_fields["name"].default)


def check(config: Any) -> None:
    """Raise BadSettings or TokenizerMismatch where --init does not go with the run's other settings."""
    if config.init is None:
        if config.replay:
            raise BadSettings("--replay shows a model again what it has learned: say which one with --init, or leave it out.")
        return
    if config.vocab_size:
        raise BadSettings("--init brings its tokenizer: leave --vocab_size out, it is for a tokenizer that is trained.")
    if MODELS[config.model.name].counted:
        raise BadSettings(f"a {config.model.name} is counted in one pass and cannot go on from --init: count it over all text.")
    check_tokenizer(config.init, config.tokenizer)
    context = model_settings(config.init, config.model).context
    if config.row_tokens and config.row_tokens > context:
        raise BadSettings(
            f"--row_tokens {config.row_tokens} is more than the model's context of {context}. Give --model.rope_scaling for a "
            f"longer one, or shorter rows."
        )


def check_tokenizer(init: Path, tokenizer: Path | None) -> None:
    """Raise TokenizerMismatch where another tokenizer is asked for than the one that the model has learned."""
    from danlu.tokenizer.tokenizer import Tokenizer

    if tokenizer and (given := Tokenizer.open(tokenizer)).id != (own := Tokenizer.open(init)).id:
        raise TokenizerMismatch(
            f"--tokenizer {tokenizer} ({given.vocab_size} tokens) is not the tokenizer of --init {init} "
            f"({own.vocab_size} tokens): what its embeddings have learned would mean other text. Leave --tokenizer out: the "
            f"model brings its own."
        )


def model_settings(init: Path, asked: "Named") -> "ModelConfig":
    """The model's own settings with those asked for in their place.

    A scaling without sizes means the length that the model was trained for, and its factor times as much for the context.
    Raises BadSettings for another family, and for settings under which the weights have no place.
    """
    from danlu.models import packed
    from danlu.models.weights import read_config

    if family(init) != asked.name:
        raise BadSettings(
            f"--init {init} is a {family(init)}, and --model.name asks for {asked.name}. Leave --model.name out: weights of one "
            f"family are no start for another."
        )
    found = read_config(init)
    if packed.KEY in found:
        raise UnsupportedModel(
            f"--init {init} is in small integers, which gradients cannot move. Go on from the model that it was made from "
            f"(danlu inspect {init}), and compress the result."
        )
    base = MODELS[asked.name].from_hf(found)
    changes = asked.model_dump(include=asked.model_fields_set - {"name"})
    if changes.get("rope_scaling"):
        changes = {**changes, **_scaled(base, changes)}
    try:
        settings: ModelConfig = type(base)(**{**base.model_dump(), **changes})
    except ValidationError as error:
        lines = [f"model.{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors()]
        raise BadSettings("\n  ".join([f"--init {init} cannot take these settings:", *lines])) from None
    _check_shapes(init, base, settings, changes)
    return settings


def _scaled(base: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """A scaling with the lengths that it leaves out."""
    scaling, before = dict(changes["rope_scaling"]), base.rope_scaling
    trained = base.max_position_embeddings
    if before is not None:
        trained = round(trained / before.factor) if before.rope_type == "linear" else before.trained(trained)
    if scaling["rope_type"] in ("yarn", "llama3", "longrope") and scaling.get("original_max_position_embeddings") is None:
        scaling["original_max_position_embeddings"] = trained
    found: dict[str, Any] = {"rope_scaling": scaling}
    if "max_position_embeddings" not in changes and scaling.get("factor"):
        found["max_position_embeddings"] = trained if scaling["rope_type"] == "dynamic" else int(trained * scaling["factor"])
    return found


def _check_shapes(init: Path, base: "ModelConfig", settings: "ModelConfig", changes: dict[str, Any]) -> None:
    import torch

    with torch.device("meta"):
        before, after = (
            {name: tuple(tensor.shape) for name, tensor in MODELS.build(one).state_dict().items()} for one in (base, settings)
        )
    moved = sorted({*before.items()} ^ {*after.items()})
    if moved:
        names = list(dict.fromkeys(name for name, _ in moved))
        raise BadSettings(
            f"--init {init} brings weights whose shapes would be others under --model.{', --model.'.join(sorted(changes))}: "
            f"{', '.join(names[:3])}{' and more' if len(names) > 3 else ''}. Leave out what changes sizes, or train anew."
        )


def model(init: Path | None, settings: "ModelConfig", seed: int) -> "LanguageModel":
    """The model before its first step: with the folder's weights where there is one, else with first values of the seed."""
    from danlu.models.weights import load_model

    found: LanguageModel = load_model(init, config=settings).train() if init else MODELS.build(settings, seed)
    return found


def gentler(optimiser: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The optimiser's settings with smaller rates for a model that has learned already; those given stay.

    >>> gentler({"name": "muon", "learning_rate": 0.1, "table_rate": 0.2}, {"name": "muon", "table_rate": 0.2})
    {'name': 'muon', 'learning_rate': 0.03, 'table_rate': 0.2}
    """
    return {key: round(value * GENTLER, 9) if key.endswith("_rate") and key not in given else value
            for key, value in optimiser.items()}  # fmt: skip


def as_input(init: Path) -> Input:
    """The model folder as an input of the run's artefact."""
    from danlu.engine.folder import model_input

    return model_input(init, "init")


def records(init: Path | None, dataset: Artifact) -> tuple[list[str], list[str]]:
    """Licences and sources of all text that a model has learned, that of its beginnings included where its folder says so."""
    begun = open_artifact(init).lineage if init and (init / lineage.NAME).is_file() else None
    licences, sources = (begun.licences, begun.sources) if begun else ((), ())
    more = dataset.lineage
    return list(dict.fromkeys([*licences, *more.licences])), list(dict.fromkeys([*sources, *more.sources]))
