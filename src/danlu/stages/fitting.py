"""Whether an objective, a model family and a dataset go together."""

from pathlib import Path

from danlu.core.errors import BadSettings
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES


def check_kind(objective: str, family: str) -> None:
    """Raise BadSettings where the objective is for models of another kind."""
    wanted = OBJECTIVES[objective].kind
    if wanted in kinds(family):
        return
    fitting = ", ".join(name for name in MODELS.names() if wanted in kinds(name))
    if not fitting:
        raise BadSettings(f"--objective.name {objective} learns from labelled samples: that is `danlu finetune`.")
    raise BadSettings(
        f"--objective.name {objective} trains a {wanted}, and --model.name {family} is none. "
        f"Families that are: {fitting}. Left out, the model is {OBJECTIVES[objective].family}."
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
