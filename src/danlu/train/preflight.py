"""What is checked before the first step on conversations: whether the model would learn what it will be served with.

Each check judges what it is given, whoever made it. Cheap ones see every sample; those that render (served.py) see the longest,
those with names of special tokens in them, and some spread over all the rest; leaks are looked for in the first batch (leaks.py).
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.core import log
from danlu.core.errors import BadInput, PreflightFailed
from danlu.core.labels import NO_LABEL
from danlu.data.shards import Document
from danlu.objectives.answers import place_of
from danlu.objectives.base import Batch
from danlu.tokenizer.chat import encode_chat
from danlu.tokenizer.tokenizer import TEMPLATE_NAME, Tokenizer
from danlu.train.leaks import packing_leak
from danlu.train.samples import Samples
from danlu.train.served import closes, conversations, differences, stretches

LOOKED_AT = 64
"""Samples of a split that are rendered anew."""
_SHOWN = 3
"""Places that a message names."""
_UNKNOWN_MOST = 0.05
"""Share of unknown tokens beyond which a vocabulary does not fit the text."""


@dataclass
class Report:
    """What was found."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """For lineage: counts and shares by name."""

    def finish(self, opening: str) -> None:
        """Tell the warnings. Raises PreflightFailed listing every error."""
        for line in self.warnings:
            log.warn(line)
        self.figures["warnings"] = list(self.warnings)
        if self.errors:
            raise PreflightFailed("\n  ".join([opening, *self.errors]))


def check(
    samples: Mapping[str, Samples], documents: Mapping[str, Sequence[Document]], tokenizer: Tokenizer, *, folder: Path, most: int,
    ends: Collection[int], overlong: str = "raise", template_given: bool = False, model: Any = None, batch: Batch | None = None,
) -> Report:  # fmt: skip
    """All checks before step 1, for objectives that teach tokens of conversations. Raises PreflightFailed, BadInput.

    samples, documents: of each split; a sample is found by the place of its document.
    tokenizer: with the chat template that training uses. folder: of the model to begin from.
    most: tokens that a sample may have. ends: ids at which the model will stop when it is served.
    template_given: whether the user chose a template in place of the folder's.
    model, batch: the bare module that learns and its first batch, for the test of leaks.
    """
    report, template = Report(), tokenizer.chat_template
    if not template:
        raise BadInput(f"{folder} has no chat template, and conversations are written by one. Say --template chatml, or give a "
                       f"file of one.")  # fmt: skip
    closing = closes(tokenizer, template)
    _check_template(report, folder, tokenizer, template, template_given)
    _check_ends(report, tokenizer, closing, ends)
    for split, part in samples.items():
        _check_labels(report, split, part)
        _check_lengths(report, split, part, most, overlong)
        _check_closed(report, split, part, tokenizer, closing, overlong)
        _check_vocabulary(report, split, part, tokenizer, closing)
        _check_served(report, split, part, documents.get(split, ()), tokenizer, closing, overlong)
    _check_twice(report, samples)
    if model is not None and batch is not None:
        _check_leaks(report, model, batch, samples["train"])
    report.finish("nothing was trained; this must be put right first:")
    return report


def check_saved(folder: Path, tokenizer: Tokenizer) -> None:
    """Whether a finished folder will be served as it was trained: template, ids and ends. Raises PreflightFailed.

    For the folder that a stage is about to publish; looks at what other tools will read.
    """
    report, saved, template = Report(), Tokenizer.open(folder), tokenizer.chat_template
    if saved.chat_template != template:
        report.errors.append(f"{folder / TEMPLATE_NAME} is not the template that was trained with: serving would ask otherwise.")
    elif template:
        probe = [{"role": "user", "content": "1 + 1?"}]
        if encode_chat(saved, template, probe) != encode_chat(tokenizer, template, probe):
            report.errors.append(f"{folder}: the saved tokenizer gives other ids for a conversation than the one that was used.")
        for token in sorted(closes(tokenizer, template) - saved_ends(folder, saved)):
            report.errors.append(
                f"{folder / 'generation_config.json'}: eos_token_id does not name {_name(tokenizer, token)} (id {token}), which "
                f"ends an answer: other tools would never stop."
            )
    report.finish("the model would be served otherwise than it was trained:")


def saved_ends(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """Ids at which a model in a folder stops: its tokenizer's and those of generation_config.json."""
    place = folder / "generation_config.json"
    said = json.loads(place.read_text(encoding="utf-8")).get("eos_token_id") if place.is_file() else None
    listed = said if isinstance(said, list) else [said]
    return frozenset(token for token in [tokenizer.eos_id, *listed] if token is not None)


def _check_template(report: Report, folder: Path, tokenizer: Tokenizer, template: str, given: bool) -> None:
    """The template beside the model is the one that is used, and begins a document once."""
    beside = Tokenizer.open(folder).chat_template
    if beside and beside != template and not given:
        report.errors.append(
            f"{folder}: training would use another chat template than {TEMPLATE_NAME} beside the model, which knows turns as "
            f"that file writes them. Leave --template out to keep it, or name the new one with --template."
        )
    begin = tokenizer.bos_id
    if begin is not None and encode_chat(tokenizer, template, [{"role": "user", "content": "x"}])[:2] == [begin, begin]:
        report.errors.append(
            f"{folder}: the chat template begins a conversation with {_name(tokenizer, begin)} twice, and the model knows it "
            f"once. Take one out of the template."
        )


def _check_ends(report: Report, tokenizer: Tokenizer, closing: frozenset[int], ends: Collection[int]) -> None:
    """Something ends a turn, and the served model stops at it."""
    if not closing:
        report.errors.append(
            "the chat template closes no answer with a special token: nothing could teach the model to stop. Let it write one, "
            "such as eos_token, right behind the content of an assistant's message."
        )
    for token in sorted(closing - set(ends)):
        report.errors.append(
            f"the template ends an answer with {_name(tokenizer, token)} (id {token}), and the model would not stop there when "
            f"it is served. Add {token} to eos_token_id of generation_config.json."
        )


def _check_labels(report: Report, split: str, part: Samples) -> None:
    """Every sample asks for something."""
    tokens, taught = sum(len(one.ids) for one in part.encoded), [int((one.targets != NO_LABEL).sum()) for one in part.encoded]
    report.figures[split] = {"samples": len(part), "tokens": tokens, "taught_tokens": sum(taught),
                             "taught_share": round(sum(taught) / max(tokens, 1), 4)}  # fmt: skip
    if empty := [at for at, count in enumerate(taught) if not count]:
        report.errors.append(
            f"{_places(part, empty)}: {_count(empty, part, split)} ask for no token, and nothing would be learned from them. "
            f"Give each conversation an answer of the assistant, or leave it out."
        )


def _check_lengths(report: Report, split: str, part: Samples, most: int, overlong: str) -> None:
    """No text of a sample is longer than what the model sees, and none was cut without being asked for."""
    if long := [at for at, one in enumerate(part.encoded) if len(one.ids) > most and np.bincount(one.documents).max() > most]:
        report.errors.append(
            f"{_places(part, long)}: {_count(long, part, split)} are longer than the {most} tokens that the model sees at once. "
            f"Say --overlong drop, truncate or split."
        )
    cut = [at for at, one in enumerate(part.encoded) if one.cut]
    report.figures[split]["cut"] = len(cut)
    if cut and overlong != "truncate":
        report.errors.append(f"{_places(part, cut)}: {_count(cut, part, split)} were cut, and --overlong is {overlong}. Say "
                             f"--overlong truncate if that is meant.")  # fmt: skip


def _check_closed(
    report: Report, split: str, part: Samples, tokenizer: Tokenizer, closing: frozenset[int], overlong: str
) -> None:
    """Every stretch of taught tokens ends with a token that ends a turn."""
    left_open, turns = [], 0
    for at, one in enumerate(part.encoded):
        lasts = [[int(targets[end]) for _, end in stretches(targets)] for targets in texts(one.documents, one.targets)]
        turns += sum(map(len, lasts))
        if one.cut and overlong == "truncate":
            lasts = [of_text[:-1] for of_text in lasts]
        if any(last not in closing for of_text in lasts for last in of_text):
            left_open.append(at)
    report.figures[split] |= {"taught_turns": turns, "left_open": len(left_open)}
    if left_open and closing:
        names = " or ".join(_name(tokenizer, token) for token in sorted(closing))
        report.errors.append(
            f"{_places(part, left_open)}: in {_count(left_open, part, split)} an answer is learned without its end ({names} "
            f"carries no loss, or was cut off): the model would never stop. Look at the template's generation marks and at how "
            f"the samples were cut."
        )


def _check_vocabulary(report: Report, split: str, part: Samples, tokenizer: Tokenizer, closing: frozenset[int]) -> None:
    """Padding is no target, and the vocabulary can write the text."""
    pad = tokenizer.pad_id
    if pad is not None and pad not in closing and (padded := [at for at, one in enumerate(part.encoded) if pad in one.targets]):
        report.errors.append(f"{_places(part, padded)}: {_count(padded, part, split)} teach the model to write the padding token "
                             f"{_name(tokenizer, pad)}. Filling must ask for nothing.")  # fmt: skip
    unknown = _unknown(tokenizer)
    if unknown is None:
        return
    counts = [int((one.ids == unknown).sum()) for one in part.encoded]
    report.figures[split]["unknown_tokens"] = sum(counts)
    if share := sum(counts) / max(report.figures[split]["tokens"], 1):
        told = (f"{_places(part, np.flatnonzero(counts))}: {share:.2%} of the tokens of the {split} split are "
                f"{_name(tokenizer, unknown)}: the vocabulary cannot write these characters. Take a tokenizer that can, or clean "
                f"the text.")  # fmt: skip
        (report.errors if share > _UNKNOWN_MOST else report.warnings).append(told)


def _check_served(
    report: Report, split: str, part: Samples, documents: Sequence[Document], tokenizer: Tokenizer, closing: frozenset[int],
    overlong: str,
) -> None:  # fmt: skip
    """Tokens and targets are those that serving would read and write; the first sample of each kind of fault is told."""
    found: dict[str, list[int]] = {}
    for at, place in enumerate(part.places):
        found.setdefault(place, []).append(at)
    names = sorted(tokenizer.special_tokens)
    spelt = spelling(documents, names)
    told: set[str] = set()
    looked_at = 0
    for document in looked_through(documents, spelt):
        numbers, talks = found.get(place_of(document), []), conversations(document)
        if not numbers or not talks or (len(numbers) > 1 and overlong == "split"):
            continue  # left out or split, both counted in the ledger, or a prompt without an answer
        looked_at += 1
        for kind, words in differences([part.encoded[at] for at in numbers], talks, tokenizer, closing, overlong == "truncate"):
            if kind not in told:
                told.add(kind)
                report.errors.append(f"{place_of(document)}: {words}")
    report.figures[split] |= {"rendered_anew": looked_at, "spell_special_tokens": len(spelt)}
    if spelt:
        report.warnings.append(
            f"{len(spelt):,} samples of the {split} split spell names of special tokens ({', '.join(names[:3])}, ...) in what "
            f"people say: they stay text, here as in serving."
        )


def spelling(documents: Sequence[Document], names: Collection[str]) -> list[int]:
    """Which documents hold names of special tokens in what people say."""
    first = {name[0] for name in names}
    return [
        at
        for at, one in enumerate(documents)
        if any(letter in one.text for letter in first) and any(name in one.text for name in names)
    ]


def looked_through(documents: Sequence[Document], spelt: Sequence[int], most: int = LOOKED_AT) -> list[Document]:
    """Which documents are rendered anew: the longest, those that spell special tokens, and some spread over the rest."""
    longest = sorted(range(len(documents)), key=lambda at: -len(documents[at].text))[: most // 2]
    spread = np.linspace(0, max(len(documents) - 1, 0), min(most // 4, len(documents))).astype(int).tolist()
    return [documents[at] for at in sorted({*longest, *spelt[: most // 4], *spread})]


def _check_twice(report: Report, samples: Mapping[str, Samples]) -> None:
    """What is held out is not trained on."""
    if not samples.get("validation") or not samples.get("train"):
        return
    held, known = samples["validation"], {one.ids.tobytes() for one in samples["train"].encoded}
    twice = [at for at, one in enumerate(held.encoded) if one.ids.tobytes() in known]
    report.figures["validation"]["also_in_train"] = len(twice)
    if twice:
        report.warnings.append(
            f"{_places(held, twice)}: {_count(twice, held, 'validation')} are in the training part too, word for word: held-out "
            f"figures will look better than they are. Prepare the data with copies removed."
        )


def _check_leaks(report: Report, model: Any, batch: Batch, samples: Samples) -> None:
    """Changing one packed text changes nothing for its neighbours, and filling asks for nothing."""
    for row, origin in enumerate(batch.origin):
        used = int(np.asarray(origin)[:, 2].sum())
        if bool((batch.targets[row, used:] != NO_LABEL).any()):
            report.errors.append(
                f"row {row} of the first batch asks for tokens in its filling, behind token {used}. Report this."
            )
    leak = packing_leak(model, batch)
    report.figures["packing_leak"] = None if leak is None else leak.change
    if leak is not None and leak.found:
        report.errors.append(
            f"{samples.origin(leak.changed)} and {samples.origin(leak.neighbour)} share a row, and changing the one changes what "
            f"the model computes for the other (by {leak.change:.2g} standard deviations): packed samples see one another. Say "
            f"--row_tokens 2, so that each stands alone, and report this."
        )


def texts(documents_T: NDArray[Any], values_T: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The values of each text of a sample."""
    for text in range(int(documents_T[-1]) + 1 if len(documents_T) else 0):
        yield values_T[documents_T == text]


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The token that stands for characters outside the vocabulary; none where another role uses it too."""
    said = tokenizer.config.get("unk_token")
    name = said["content"] if isinstance(said, dict) else said
    found = tokenizer.vocab.get(name) if name else None
    return None if found in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) else found


def _name(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.decode([token])


def _places(part: Samples, which: Sequence[int] | NDArray[Any]) -> str:
    """Where samples stand: the first few."""
    named = ", ".join(dict.fromkeys(part.origin(int(at)) for at in which[:_SHOWN]))
    return f"{named} and {len(which) - _SHOWN:,} more" if len(which) > _SHOWN else named


def _count(which: Sequence[int], part: Samples, split: str) -> str:
    return f"{len(which):,} of {len(part):,} samples of the {split} split"
