"""A head in place of the words: a body that any family trained, and a small matrix that answers one question about its text.

Names on disk are those of transformers' ForSequenceClassification, ForTokenClassification and ForQuestionAnswering of the
body's family, so that it opens such folders; an embedding is the body alone. B rows, T tokens, D width, N places, C scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from danlu.core.errors import UnsupportedModel
from danlu.core.settings import Settings
from danlu.models.base import LanguageModel, MaskedLM, Seq2SeqLM
from danlu.models.weights import load_model, read_config
from danlu.nn.init import initialise
from danlu.nn.linear import Linear

Task = Literal["classify", "regress", "tag", "extract", "embed", "reward"]
Pooling = Literal["last", "first", "mean"]
KEY = "danlu_head"
"""Our field of config.json."""
_SUFFIXES = {
    "classify": "ForSequenceClassification", "regress": "ForSequenceClassification", "tag": "ForTokenClassification",
    "extract": "ForQuestionAnswering", "embed": "Model", "reward": "ForSequenceClassification",
}  # fmt: skip
_ABOUT_TEXT = ("classify", "regress", "reward")
"""Tasks that score a text as a whole."""
_LANGUAGE = ("ForCausalLM", "LMHeadModel", "ForMaskedLM")
_OLD_TAGGERS = ("gpt2", "gpt_neox", "bloom")
_OLD_READERS = ("llama", "qwen2", "qwen3", "qwen3_moe")
"""Families whose question answering calls the body `transformer`, as it was called once."""


class HeadConfig(Settings):
    """What a head answers."""

    task: Task
    """The question."""
    labels: list[str] = Field([])
    """Classes or tags in the order of the scores; empty where there are none."""
    pooling: Pooling = "last"
    """Which vector stands for a text."""
    dims: list[int] = Field([])
    """Shorter lengths at which an embedding was trained to work as well (Matryoshka, arXiv:2205.13147)."""
    mean: float = 0.0
    """Of the numbers that a regression learned from: its score counts deviations from it."""
    deviation: float = 1.0
    """Standard deviation of those numbers."""

    @property
    def scores(self) -> int:
        """Scores of a place."""
        return {"regress": 1, "reward": 1, "extract": 2, "embed": 0}.get(self.task, len(self.labels))


@dataclass(frozen=True)
class Layout:
    """Where a head's parts lie on disk, and what they compute."""

    out: str
    bias: bool = True
    pooling: Pooling = "last"
    transform: str = ""
    """A dense layer before the last product."""
    body: str = ""
    """What the body is called there, where that differs."""


def layout_of(body: LanguageModel, task: Task) -> Layout:
    """The layout of transformers' class of this family and task."""
    family, about_text = body.config.hf_type, task in _ABOUT_TEXT
    if family == "modernbert":
        return Layout("classifier", pooling="first", transform="head")
    if family == "roberta" and about_text:
        return Layout("classifier.out_proj", pooling="first", transform="classifier")
    if family == "bert" and about_text:
        return Layout("classifier", pooling="first", transform="bert.pooler")
    if task == "extract":
        return Layout("qa_outputs", body="transformer" if family in _OLD_READERS else "")
    if isinstance(body, MaskedLM):
        return Layout("classifier", pooling="first")
    if about_text:
        return Layout("score", bias=False)
    return Layout("classifier" if family in _OLD_TAGGERS else "score")


class Pooler(nn.Module):
    """x (..., D) -> (..., D) before a sentence's scores, as BERT has it."""

    def __init__(self, width: int):
        super().__init__()
        self.dense = Linear(width, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x).tanh()


class Head(nn.Module):
    """x (N, D) -> scores (N, C)."""

    def __init__(self, width: int, scores: int, layout: Layout, transform: nn.Module | None):
        super().__init__()
        self.transform = transform or (Pooler(width) if layout.transform else nn.Identity())
        self.out = Linear(width, scores, layout.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.transform(x)).float()


class HeadedConfig:
    """Settings of a body and its head, as one config.json."""

    def __init__(self, body: Any, head: HeadConfig):
        self.body, self.head = body, head
        self.name, self.context, self.width, self.vocab_size = body.name, body.context, body.width, body.vocab_size

    def to_hf(self) -> dict[str, Any]:
        """The config.json that transformers reads as this model."""
        found, head = self.body.to_hf(), self.head
        found["architectures"] = [_stem(self.body.hf_class) + _SUFFIXES[head.task]]
        found[KEY] = head.model_dump(mode="json", exclude={"labels"})
        if head.task == "embed":
            return found
        labels = head.labels or [f"LABEL_{at}" for at in range(head.scores)]
        found |= {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
        if head.task in _ABOUT_TEXT:
            found["problem_type"] = "single_label_classification" if head.task == "classify" else "regression"
        pooling = {"classifier_pooling": "mean" if head.pooling == "mean" else "cls"}
        return found | (pooling if found["model_type"] == "modernbert" else {})


class Headed(nn.Module):
    """A body with a head. `body` gives a vector for each token; `head` scores the vectors that matter."""

    def __init__(self, body: LanguageModel, head: HeadConfig, seed: int = 0):
        super().__init__()
        if isinstance(body, Seq2SeqLM) or type(body).counted:
            raise UnsupportedModel(f"{body.config.name} gives no vector for each token of a text, so it takes no head. "
                                   f"Take a decoder or an encoder.")  # fmt: skip
        self.layout = layout_of(body, head.task)
        self.config = HeadedConfig(body.config, head)
        transform = body.head if self.layout.transform == "head" and isinstance(body, MaskedLM) else None
        self.body = behead(body)
        self.head = Head(body.config.width, head.scores, self.layout, transform) if head.scores else None
        fresh = self.head and nn.ModuleDict({"out": self.head.out, **({} if transform else {"transform": self.head.transform})})
        if fresh:
            initialise(fresh, seed, lambda name, part: body.config.initializer_range, lambda name: 0.0)

    @property
    def pooling(self) -> Pooling:
        """Which vector stands for a text: an embedding chooses, and of transformers' classes ModernBERT's alone."""
        said = self.config.head.pooling
        chooses = self.config.head.task == "embed" or (self.config.body.hf_type == "modernbert" and said == "mean")
        return said if chooses else self.layout.pooling

    def hidden(self, ids_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """A vector for each token, (B, T, D); documents do not see one another."""
        return self.body.hidden(ids_BT, documents_BT=documents_BT)  # type: ignore[operator]  # every body here has it

    def pooled(self, ids_BT: Tensor, documents_BT: Tensor | None, marked_BT: Tensor) -> Tensor:
        """The vectors of the texts that are marked, (N, D), in row order.

        marked_BT: booleans, true at one token of each text: the first, the last, or any where the mean is taken.
        """
        hidden_BTD = self.hidden(ids_BT, documents_BT)
        return mean_by_document(hidden_BTD, documents_BT, marked_BT) if self.pooling == "mean" else hidden_BTD[marked_BT]

    def scores(self, x: Tensor) -> Tensor:
        """Vectors (..., D) to float32 scores (..., C)."""
        assert self.head is not None
        found: Tensor = self.head(x)
        return found

    def embedded(self, ids_BT: Tensor, documents_BT: Tensor | None, marked_BT: Tensor) -> Tensor:
        """Vectors of length one, (N, D), float32."""
        return F.normalize(self.pooled(ids_BT, documents_BT, marked_BT).float(), dim=-1)

    # ---- what training and files ask of a model

    def penalty(self) -> Tensor | None:
        """The body's own addition to the loss."""
        return self.body.penalty()

    def after_step(self, add: Any, moved: bool) -> None:
        """The body's own doings after a step."""
        self.body.after_step(add, moved)

    def twin(self) -> Self:
        """A model of the same shape, with other values."""
        return type(self)(type(self.body)(self.config.body), self.config.head)

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """Type of the body's matrix products."""
        return self.body.compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype | None) -> None:
        self.body.compute_dtype = dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.body.embedding.device

    def flops_per_token(self, row_tokens: int) -> float:
        """Arithmetic of one training token, as for language models."""
        tables = {id(part.weight) for part in self.modules() if type(part).__name__ == "Embedding"}
        products = sum(part.numel() for part in self.parameters() if part.dim() >= 2 and id(part) not in tables)
        return 6.0 * products + 12.0 * self.config.body.depth * self.config.body.attention_width * row_tokens

    def pieces(self, name: str) -> dict[str, Any]:
        """Where a tensor of ours lies on disk; see LanguageModel.pieces."""
        place, _, rest = name.partition(".")
        if place == "body":
            return {self._renamed(there): part for there, part in self.body.pieces(rest).items()}
        part, _, rest = rest.partition(".")
        return {f"{self.layout.out if part == 'out' else self.layout.transform}.{rest}": ...}

    def name_here(self, name: str) -> str | None:
        """The tensor of ours that a tensor on disk fills, or its piece; None for one that carries nothing."""
        if any(name in self.pieces(own) for own in self.state_dict()):
            return name
        own = self.body.name_here(name)
        return None if own is None else f"body.{own}"

    def _renamed(self, name: str) -> str:
        stem, _, rest = name.partition(".")
        return f"{self.layout.body}.{rest}" if self.layout.body and stem == trunk_of(self.body) else name


def trunk_of(body: LanguageModel) -> str:
    """The part of a body that holds its embedding, by name."""
    return next(name for name, part in body.named_children() if any(own is body.embedding for own in part.parameters()))


def behead(body: LanguageModel) -> LanguageModel:
    """The same model, in place, without what only predicts words."""
    trunk = trunk_of(body)
    for name, _ in [*body.named_children()]:
        if name != trunk:
            delattr(body, name)
    return body


def mean_by_document(hidden_BTD: Tensor, documents_BT: Tensor | None, marked_BT: Tensor) -> Tensor:
    """The mean of all tokens of each marked token's document, (N, D)."""
    rows_N, at_N = marked_BT.nonzero(as_tuple=True)
    if documents_BT is None:
        return hidden_BTD.mean(1)[rows_N]
    mine_NT = documents_BT[rows_N] == documents_BT[rows_N, at_N][:, None]
    weight_NT = (mine_NT / mine_NT.sum(1, keepdim=True)).to(hidden_BTD.dtype)
    return torch.bmm(weight_NT[:, None], hidden_BTD[rows_N]).squeeze(1)


def is_headed(found: dict[str, Any]) -> bool:
    """Whether a config.json is of a model with a head: ours, or one of transformers' classes."""
    names = tuple(suffix for task, suffix in _SUFFIXES.items() if task != "embed")
    return KEY in found or str((found.get("architectures") or [""])[0]).endswith(names)


def load_headed(folder: Path, dtype: torch.dtype = torch.float32) -> Headed:
    """The model with a head in a folder, ours or transformers'. Raises what `load_model` raises."""
    folder = Path(folder)
    head = _head_of(read_config(folder), folder)
    model: Headed = load_model(folder, dtype, lambda body: Headed(body, head))
    return model


def load_body(folder: Path) -> LanguageModel:
    """The language model in a folder, or the body of a model with a head."""
    body: LanguageModel = load_headed(folder).body if is_headed(read_config(folder)) else load_model(folder)
    return body


def _head_of(found: dict[str, Any], folder: Path) -> HeadConfig:
    names = {int(at): str(label) for at, label in (found.get("id2label") or {}).items()}
    labels = [names[at] for at in sorted(names)]
    if KEY in found:
        said = dict(found[KEY])
        return HeadConfig(**said, labels=labels if said["task"] in ("classify", "tag") else [])
    architecture = str(found["architectures"][0])
    task: Task = next(task for task, suffix in _SUFFIXES.items() if architecture.endswith(suffix))  # type: ignore[assignment]
    if task == "classify" and found.get("problem_type") == "multi_label_classification":
        raise UnsupportedModel(
            f"{folder}: problem_type multi_label_classification: several classes at once are not computed here."
        )
    pooling: Pooling = "mean" if found.get("classifier_pooling") == "mean" else "first"
    if task == "classify" and (len(labels) == 1 or found.get("problem_type") == "regression"):
        return HeadConfig(task="regress", pooling=pooling)
    named = (labels or ["LABEL_0", "LABEL_1"]) if task in ("classify", "tag") else []
    return HeadConfig(task=task, pooling=pooling, labels=named)


def _stem(hf_class: str) -> str:
    return next((hf_class.removesuffix(end) for end in _LANGUAGE if hf_class.endswith(end)), hf_class)


def attach(body: LanguageModel, head: HeadConfig, seed: int = 0) -> Headed:
    """A new head on a body, which loses what only predicts words. Raises UnsupportedModel for a body that takes none."""
    return Headed(body, head, seed)


def texts_in_rows(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Which texts share a row of at most `most` tokens: the longest first, each where it fits best; a longer text stands alone.

    >>> texts_in_rows([3, 9, 4, 2, 5], most=9)
    [[1], [4, 2], [0, 3]]
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda text: (-lengths[text], text)):
        fits = [(left, row) for row, left in enumerate(room) if left >= lengths[text]]
        if fits:
            left, row = min(fits)
            rows[row].append(text)
            room[row] = left - lengths[text]
        else:
            rows.append([text])
            room.append(max(most - lengths[text], 0))
    return rows
