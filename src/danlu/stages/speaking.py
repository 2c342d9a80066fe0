"""Models that keep their words while they are taught: how they begin (template, new tokens), and what folder they leave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.core import files
from danlu.core.errors import BadSettings, UnsupportedModel

if TYPE_CHECKING:
    from danlu.core.page import Page
    from danlu.data.shards import Document
    from danlu.objectives.labelled import Labelled
    from danlu.stages.teaching import Lesson
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.samples import Samples


_SHOWN = 3
"""Samples that a report shows."""


def speaker(config: Any) -> Any:
    """The model with its words. Raises UnsupportedModel."""
    from danlu.models import packed
    from danlu.models.adapters.held import holding
    from danlu.models.base import CausalLM
    from danlu.models.heads import is_headed
    from danlu.models.weights import load_model, read_config, read_packed

    found = read_config(config.model)
    if is_headed(found):
        raise UnsupportedModel(
            f"{config.model} has a head in place of words, so it cannot be taught to answer in words. Give the model that it was "
            f"made from."
        )
    adapter = getattr(config, "adapter", None)
    if packed.KEY in found and adapter is None:
        raise UnsupportedModel(
            f"{config.model} is in small integers, which gradients cannot move. Give the model that it was made from "
            f"(danlu inspect {config.model}), or let something learn beside it: --adapter lora."
        )
    small = adapter is not None and adapter.base != "float"
    model = load_model(config.model, placed=holding(adapter.base, adapter.group, read_packed(config.model)) if small else None)
    if not isinstance(model, CausalLM) or model.counted:
        raise UnsupportedModel(
            f"{config.model} ({model.config.name}) does not write a text on by weights that gradients move, and conversations "
            f"are written on. Take a model that was trained with --objective.name causal."
        )
    return model


def grown(config: Any, model: Any, tokenizer: "Tokenizer") -> "tuple[Any, Tokenizer]":
    """The model and its tokenizer with the new tokens that were asked for."""
    if not config.new_tokens:
        return model, tokenizer
    from danlu.models.resize import resize
    from danlu.tokenizer.extend import extend

    larger = extend(tokenizer, config.new_tokens)
    resize(model, tokenizer, larger)
    return model, larger


def with_template(config: Any, tokenizer: "Tokenizer") -> "Tokenizer":
    """The tokenizer with the chat template of the result."""
    from danlu.tokenizer.chatml import TEMPLATES
    from danlu.tokenizer.definition import IM_END, IM_START
    from danlu.tokenizer.turns import with_template as framed

    asked = config.template
    if asked is None and tokenizer.chat_template:
        return tokenizer
    text = TEMPLATES.get(asked or "chatml") or template_file(Path(asked))
    if text in TEMPLATES.values() and (lacking := [one for one in (IM_START, IM_END) if one not in tokenizer.special_tokens]):
        raise BadSettings(
            f"the chatml template frames turns with {IM_START} and {IM_END}, and the tokenizer of {config.model} lacks "
            f"{' and '.join(lacking)}. Add them (--new_tokens '{IM_START}' '{IM_END}'), or give a --template of tokens it has."
        )
    return framed(tokenizer, text)


def template_file(path: Path) -> str:
    """The text of a template. Raises BadSettings where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"--template {path} is neither chatml, chatml_thinking nor a readable file ({error}).") from None


def show(samples: "Samples", tokenizer: "Tokenizer", count: int) -> None:
    """The first samples in colour, on the terminal."""
    from danlu.tokenizer import colours

    for ids, mask, origin in shown(samples, count):
        colours.show(ids, mask, tokenizer, origin)


def shown(samples: "Samples", count: int) -> "list[tuple[list[int], list[bool], str]]":
    """The first samples, each text of each: its tokens, which of them are learned, and where it is from."""
    from danlu.tokenizer import colours

    found = []
    for number in range(min(count, len(samples))):
        one = samples.encoded[number]
        for text in dict.fromkeys(one.documents.tolist()):
            here = one.documents == text
            found.append((*colours.of_targets(one.ids[here].tolist(), one.targets[here].tolist()), samples.origin(number)))
    return found


def keep(
    config: Any, model: Any, lesson: "Lesson", draft: Any, settings: dict[str, Any]
) -> "tuple[str, Callable[[Page], None] | None]":
    """Write the folder of a model with its words. What to say of it, and its part of the report."""
    from danlu.engine.folder import model_input
    from danlu.models.adapters.base import is_adapted, save_adapter
    from danlu.models.weights import save_model
    from danlu.stages.judging import judge
    from danlu.tokenizer import colours
    from danlu.train import card
    from danlu.train.preflight import check_saved

    if is_adapted(model):
        save_adapter(model, draft.path, config.model, model_input(config.model).id)
    else:
        save_model(model, draft.path)
    keep_words(config, lesson, draft.path)
    check_saved(draft.path, lesson.tokenizer)
    change = judge(config, model, lesson)
    draft.metrics |= {"change": change.figures()} if change else {}
    facts = {"family": model.config.name, "context": model.config.context, "vocab_size": model.config.vocab_size,
             "parameters": draft.metrics["parameters"]}  # fmt: skip
    files.write_text(draft.path / "README.md", card.write_chat_card(config.out.name, facts, draft, settings))

    def parts(page: "Page") -> None:
        if lesson.samples.get("train"):
            page.heading("What is learned")
            page.text("The first samples: marked are the tokens that the objective asks for; the rest is only read.")
            page.markup(colours.shown_html(shown(lesson.samples["train"], _SHOWN), lesson.tokenizer))
        if change:
            change.add_to(page)

    return change.summary() if change else "", parts


def checked(
    config: Any, model: Any, tokenizer: "Tokenizer", objective: "Labelled", documents: "dict[str, list[Document]]",
    samples: "dict[str, Samples]", batches: Any,
) -> dict[str, Any]:  # fmt: skip
    """Look at samples, template and the first batch before the first step. Raises PreflightFailed."""
    from danlu.train import preflight

    if objective.online:
        return {}
    report = preflight.check(
        samples, documents, tokenizer, folder=config.model, most=model.config.context, ends=ends(config, tokenizer),
        overlong=config.overlong, template_given=config.template is not None, model=model, batch=batches.step(0)[0],
    )  # fmt: skip
    return report.figures


def keep_words(config: Any, lesson: "Lesson", folder: Path) -> None:
    """Tokenizer, template, and the tokens at which an answer ends, into a folder."""
    lesson.tokenizer.save(folder)
    name = "generation_config.json"
    said: dict[str, Any] = {}
    for path in (folder / name, config.model / name):  # what the model began with goes before what its sizes say
        said |= json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    said["eos_token_id"] = ends(config, lesson.tokenizer)
    files.write_text(folder / name, json.dumps(said, indent=2) + "\n")


def ends(config: Any, tokenizer: "Tokenizer") -> list[int]:
    """Ids at which the result stops: what ends a turn first, then those at which the model stopped before."""
    from danlu.tokenizer.turns import ends_of
    from danlu.train.preflight import saved_ends

    return ends_of(tokenizer, *sorted(saved_ends(config.model, tokenizer)))
