"""An adapter's folder opened together with its base: what `danlu.load` and `danlu merge` begin with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.core import lineage
from danlu.core.errors import BadInput
from danlu.engine.folder import model_input
from danlu.models.adapters import peft
from danlu.models.adapters.base import load_adapter
from danlu.models.heads import HeadConfig, attach, is_headed, load_body, load_headed
from danlu.models.resize import resize
from danlu.models.weights import load_model, read_config, read_packed
from danlu.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Laid:
    """A base with the adapter on it, not merged."""

    model: Any
    """A LanguageModel, or a Headed where the adapter brings or finds a task's head."""
    tokenizer: Tokenizer
    base: Path
    held: str | None
    """How the base's matrices are held in its folder or were held in training, where that was in few bits: int8 or int4."""


def lay(folder: Path, base: Path | None = None, another: bool = False) -> Laid:
    """Open a base and lay an adapter's folder on it. base: where it is, if not where the adapter says.

    another: whether it may be another base than the adapter's own. Raises NotAnArtifact where the base is missing, BadInput
    where it is another, and what loading either may raise.
    """
    base = base or peft.base_of(folder)
    said = peft.read_base(folder)
    if not another:
        check_same(folder, base, said)
    old = Tokenizer.open(base)
    tokenizer = Tokenizer.open(folder) if (folder / "tokenizer.json").is_file() else old
    codes = read_packed(base)
    model: Any
    if said.get("head"):
        model = attach(load_body(base), HeadConfig(**said["head"]))
    elif is_headed(read_config(base)):
        model = load_headed(base)
    else:
        model = load_model(base)
        if tokenizer.vocab_size > old.vocab_size:
            resize(model, old, tokenizer)
    load_adapter(model.eval(), folder, codes)
    kept = next((f"int{small.bits}" for small in codes.values()), None)
    return Laid(model, tokenizer, base, kept if said.get("held", "float") == "float" else said["held"])


def check_same(folder: Path, base: Path, said: dict[str, Any]) -> None:
    """Raise BadInput where the base is not the one that the adapter was trained over, as far as both have a record."""
    known = said.get("id")
    if not known or (not (base / lineage.NAME).is_file() and not known.startswith("sha256:")):
        return
    if (found := model_input(base).id) != known:
        raise BadInput(f"{folder} was trained over the base {known}, and {base} is now {found}: its changes mean something else "
                       f"there. Bring the old base back, or say that you mean it: danlu merge {folder} --base {base} --another "
                       f"-o MODEL.")  # fmt: skip
