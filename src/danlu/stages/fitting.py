"""Whether an objective, a model family and a dataset go together."""

from pathlib import Path
from typing import TYPE_CHECKING

from danlu.core.errors import BadSettings, TokenizerMismatch
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES

if TYPE_CHECKING:
    from danlu.models.config import ModelConfig


def check_kind(objective: str, family: str) -> None:
    """Raise BadSettings where the objective is for models of another kind."""
    if suits(objective, family):
        return
    wanted = OBJECTIVES[objective].kind
    fitting = ", ".join(name for name in MODELS.names() if suits(objective, name))
    if not fitting:
        raise BadSettings(f"--objective.name {objective} learns from labelled samples: that is `danlu finetune`.")
    others = ", ".join(name for name in OBJECTIVES.names() if suits(name, family))
    lacks = f"{family} is none" if wanted not in kinds(family) else f"{family} reads from left to right only"
    how = " that reads both ways" if OBJECTIVES[objective].both_ways else ""
    raise BadSettings(
        f"--objective.name {objective} trains a {wanted}{how}, and {lacks}. "
        f"For {family} give --objective.name {others}. Families for {objective}: {fitting}."
    )


def suits(objective: str, family: str) -> bool:
    """Whether models of a family can learn an objective."""
    asked = OBJECTIVES[objective]
    return asked.kind in kinds(family) and not (asked.both_ways and MODELS[family].one_way)


def check_tokenizer(objective: str, folder: Path, vocab_size: int | None) -> None:
    """Raise TokenizerMismatch where a tokenizer lacks what the objective marks texts with, BadSettings for a size beside it."""
    from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS, MASK
    from danlu.tokenizer.tokenizer import Tokenizer

    given = Tokenizer.open(folder)
    if vocab_size:
        raise BadSettings(
            f"--vocab_size {vocab_size} is for a tokenizer that is trained; {folder} brings one of {given.vocab_size} tokens. "
            f"Leave out --vocab_size or --tokenizer."
        )
    special = OBJECTIVES[objective].special_tokens
    has = {*given.special_tokens, *([MASK] if given.mask_id is not None else [])}  # others name their mask token otherwise
    if lacking := [token for token in special if token not in has]:
        named = ", ".join(lacking) if len(lacking) < 5 else f"{lacking[0]} to {lacking[-1]} ({len(lacking)})"
        every = " ".join(f"'{token}'" for token in (*DEFAULT_SPECIAL_TOKENS, *special))
        how = f"--special_tokens {every}" if len(lacking) < 5 else "all of them as --special_tokens"
        raise TokenizerMismatch(
            f"--objective.name {objective} needs the special token(s) {named}, and {folder} lacks them. Leave --tokenizer out, "
            f"and one is trained that has them; or train it yourself: danlu tokenizer DATASET -o TOKENIZER {how}."
        )


def check_rows(model: "ModelConfig", row_tokens: int | None) -> None:
    """Raise BadSettings where rows are asked for that are longer than the context that the model was given."""
    said = model.sizes.get("context")
    if row_tokens and said in model.model_fields_set and row_tokens > model.context:
        raise BadSettings(
            f"--row_tokens {row_tokens} is more than the context of {model.context} that --model.{said} gives the model. "
            f"Leave out --model.{said}, and the model's context is a row; or give shorter rows, or a longer context."
        )


def check_fields(objective: str, dataset: Path) -> None:
    """Raise BadSettings where the dataset's samples lack what the objective learns from."""
    from danlu.data.shards import sample_columns

    wanted = OBJECTIVES[objective].fields
    if lacking := sorted(set(wanted) - set(sample_columns(dataset) if wanted else ())):
        raise BadSettings(
            f"--objective.name {objective} learns from samples with {' and '.join(wanted)}, and {dataset} has no "
            f"{' and no '.join(lacking)}. Prepare it with `danlu prepare SOURCE -o DATASET --form.name answers`."
        )


def kinds(family: str) -> set[str]:
    """The kinds of model that a family is: CausalLM, MaskedLM, Seq2SeqLM."""
    return {base.__name__ for base in MODELS[family].__mro__}
