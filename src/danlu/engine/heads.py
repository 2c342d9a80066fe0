"""A model with a head opened for use: texts in; classes, numbers, tags, answers, vectors or rewards out.

Texts are packed into rows, isolated from one another, so what a text gets does not depend on its neighbours.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from danlu.core.errors import BadInput, PromptTooLong, UnsupportedModel
from danlu.core.files import write_text
from danlu.data.plain import lowered
from danlu.data.plain import words as plain_words
from danlu.models.base import MaskedLM
from danlu.models.heads import Headed, texts_in_rows
from danlu.models.weights import save_model
from danlu.objectives.frame import Frame
from danlu.objectives.reward import conversation_ids
from danlu.tokenizer.tokenizer import Tokenizer

_ROW, _ROWS = 256, 32
_MOST_WORDS = 30
"""Words of an answer at most, by tokens; longer stretches are not considered."""
_DOES = {"classify": "classify", "regress": "classify", "tag": "tag", "extract": "answer", "embed": "embed", "reward": "score"}


@dataclass(frozen=True)
class Answer:
    """A stretch of a context; empty where the model finds none."""

    text: str
    start: int
    """First character in the context."""
    score: float
    """Sum of the two log-probabilities, in nats, over the part of the context in which it was found."""


@dataclass(frozen=True)
class Class:
    """What a text is taken for."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass
class HeadedModel:
    """An opened model. `model` is the torch module, `tokenizer` its tokenizer."""

    model: Headed
    tokenizer: Tokenizer
    path: Path

    @property
    def task(self) -> str:
        """What the head answers: classify, regress, tag, extract, embed, reward."""
        return str(self.model.config.head.task)

    @property
    def context(self) -> int:
        """Most tokens of a text."""
        return int(self.model.config.context)

    @property
    def frame(self) -> Frame:
        """How texts become tokens."""
        return frame_of(self.model, self.tokenizer)

    # ---- what it answers

    def classify(self, texts: str | Sequence[str], overlong: Literal["raise", "truncate"] = "raise") -> list[Any]:
        """For each text its class with probabilities (`Class`), or the number of a regression (float)."""
        self._wants("classify")
        scores_NC = self._by_text(_listed(texts), overlong, self._scored)
        head = self.model.config.head
        if head.task == "regress":
            return [float(value) for value in scores_NC[:, 0] * head.deviation + head.mean]
        return [_class_of(row, head.labels) for row in _softmax(scores_NC)]

    def score(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        tools: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
        overlong: Literal["raise", "truncate"] = "raise",
    ) -> list[float]:
        """The reward of each finished conversation, a list of messages. tools: for each the functions that it offers.

        A model with one number for a text, as TRL's reward models, serves too. Raises PromptTooLong, BadInput.
        """
        if self.task not in ("reward", "regress"):
            self._wants("score")
        if not conversations:
            raise BadInput("no conversation was given. Give a list of them.")
        offered = tools or [None] * len(conversations)
        encoded = [conversation_ids(self.tokenizer, *one) for one in zip(conversations, offered, strict=True)]
        head = self.model.config.head
        cut = [self._fitting(ids, number, overlong) for number, ids in enumerate(encoded)]
        return [float(value) for value in self._by_ids(cut, self._scored)[:, 0] * head.deviation + head.mean]

    def embed(
        self, texts: str | Sequence[str], dim: int | None = None, overlong: Literal["raise", "truncate"] = "raise"
    ) -> np.ndarray:
        """Vectors of length one, float32 (texts, D); dim: only the first so many numbers (Matryoshka). Raises BadInput."""
        self._wants("embed")
        vectors_ND = self._by_text(_listed(texts), overlong, self.model.embedded)
        if dim is None:
            return vectors_ND
        if not 0 < dim <= vectors_ND.shape[1]:
            raise BadInput(f"this model's vectors have {vectors_ND.shape[1]} numbers; dim={dim} is none of their lengths.")
        short = vectors_ND[:, :dim]
        return short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12)

    def tag(self, text: str | Sequence[str]) -> list[tuple[str, str]]:
        """The words of a text with their tags. A text is cut into words, Han characters one by one; a list is taken as it is."""
        return self.tag_all([text])[0]

    def tag_all(self, texts: Sequence[str | Sequence[str]]) -> list[list[tuple[str, str]]]:
        """`tag` for many texts at once; a long one is read in stretches."""
        self._wants("tag")
        frame, labels = self.frame, self.model.config.head.labels
        listed = [split_words(text) if isinstance(text, str) else list(text) for text in texts]
        jobs: list[tuple[int, list[int], list[int]]] = []  # text, tokens, first token of each word
        for number, words in enumerate(listed):
            tokens = frame.words(words)
            for start, end in frame.parts([len(word) for word in tokens]):
                sizes = [len(word) for word in tokens[start:end]]
                ids = frame.framed([token for word in tokens[start:end] for token in word])
                if len(ids) > frame.most:
                    raise PromptTooLong(
                        f"the word {words[start][:40]!r} alone has {len(ids)} tokens; the model sees {frame.most}."
                    )
                jobs.append((number, ids, [len(frame.begin) + at for at in np.cumsum([0, *sizes[:-1]]).tolist()]))
        found: list[list[str]] = [[] for _ in listed]
        for (number, _, firsts), scores_TC in zip(jobs, self._by_token([ids for _, ids, _ in jobs]), strict=True):
            found[number] += [labels[at] for at in scores_TC[firsts].argmax(1)]
        return [list(zip(words, tags, strict=True)) for words, tags in zip(listed, found, strict=True)]

    def answer(self, question: str, context: str) -> Answer:
        """The stretch of the context that answers the question; a long context is read in parts that overlap."""
        return self.answer_all([(question, context)])[0]

    def answer_all(self, asked: Sequence[tuple[str, str]]) -> list[Answer]:
        """`answer` for many questions at once."""
        self._wants("answer")
        frame = self.frame
        jobs = [(number, reading) for number, (question, context) in enumerate(asked)
                for reading in frame.readings(question, context)]  # fmt: skip
        if lacking := set(range(len(asked))) - {number for number, _ in jobs}:
            raise PromptTooLong(f"question {min(lacking)} leaves no room for a context: the model sees {frame.most} tokens.")
        best = [Answer("", 0, -np.inf)] * len(asked)
        for (number, reading), scores_T2 in zip(jobs, self._by_token([reading.ids for _, reading in jobs]), strict=True):
            start, end, score = best_span(scores_T2, reading.first, len(reading.bounds))
            if score > best[number].score:
                at, to = (int(reading.bounds[start, 0]), int(reading.bounds[end, 1])) if start >= 0 else (0, 0)
                best[number] = Answer(asked[number][1][at:to], at, score)
        return best

    # ---- what it does not

    def generate(self, *_: Any, **__: Any) -> NoReturn:
        """Raises UnsupportedModel: there is no head for words."""
        raise UnsupportedModel(
            f"{self.path} has a head for {self.task} in place of words, so it writes no text. Use "
            f"danlu.load(folder).{_DOES[self.task]}(...), or give the model it was made from."
        )

    write = stream = logits = decoder = write_between = infill = generate

    def __getattr__(self, name: str) -> Any:
        """Whatever else a language model is asked whether it can, this one cannot."""
        if name.startswith("check_"):
            return self.generate
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    # ---- how

    def _wants(self, asked: str) -> None:
        if _DOES[self.task] != asked:
            raise UnsupportedModel(
                f"{self.path} has a head for {self.task}: it answers .{_DOES[self.task]}(...), not .{asked}(...)."
            )

    def _scored(self, ids_BT: Tensor, documents_BT: Tensor, marked_BT: Tensor) -> Tensor:
        return self.model.scores(self.model.pooled(ids_BT, documents_BT, marked_BT))

    def _by_text(self, texts: list[str], overlong: str, compute: Callable[[Tensor, Tensor, Tensor], Tensor]) -> np.ndarray:
        """One row of numbers for each text, float32."""
        frame, encoded = self.frame, []
        for number, text in enumerate(texts):
            ids = frame.text(text)
            if len(ids) > frame.most and overlong != "truncate":
                raise PromptTooLong(f"text {number} has {len(ids)} tokens and the model sees {frame.most}. Shorten it, or say "
                                    f"overlong='truncate' to judge by its beginning.")  # fmt: skip
            encoded.append(ids if len(ids) <= frame.most else frame.framed(self.tokenizer.encode(text)[: frame.room]))
        return self._by_ids(encoded, compute)

    def _fitting(self, ids: list[int], number: int, overlong: str) -> list[int]:
        if len(ids) > self.context and overlong != "truncate":
            raise PromptTooLong(f"conversation {number} has {len(ids)} tokens and the model sees {self.context}. Shorten it, or "
                                f"say overlong='truncate' to judge by its beginning.")  # fmt: skip
        return ids[: self.context]

    def _by_ids(self, encoded: list[list[int]], compute: Callable[[Tensor, Tensor, Tensor], Tensor]) -> np.ndarray:
        """One row of numbers for each sequence, float32."""
        frame = self.frame
        found: dict[int, np.ndarray] = {}
        for order, ids_BT, documents_BT, first_N in self._rows(encoded):
            marked_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
            for text, (row, at) in zip(order, first_N, strict=True):
                marked_BT[row, at if frame.first else at + len(encoded[text]) - 1] = True
            found |= zip(order, self._compute(compute, ids_BT, documents_BT, marked_BT), strict=True)
        return np.stack([found[number] for number in range(len(encoded))])

    def _by_token(self, encoded: list[list[int]]) -> list[np.ndarray]:
        """Scores of each token of each text, float32 (T, C)."""
        found: dict[int, np.ndarray] = {}
        for order, ids_BT, documents_BT, first_N in self._rows(encoded):
            scores_BTC = self._compute(
                lambda ids, documents: self.model.scores(self.model.hidden(ids, documents)), ids_BT, documents_BT
            )
            found |= {text: scores_BTC[row, at : at + len(encoded[text])] for text, (row, at) in zip(order, first_N, strict=True)}
        return [found[number] for number in range(len(encoded))]

    @torch.inference_mode()
    def _compute(self, compute: Callable[..., Tensor], *tensors: Tensor) -> np.ndarray:
        found: np.ndarray = compute(*(part.to(self.model.device) for part in tensors)).float().cpu().numpy()
        return found

    def _rows(self, encoded: list[list[int]]) -> Iterator[tuple[list[int], Tensor, Tensor, list[tuple[int, int]]]]:
        """Texts in rows: (texts in row order, ids (B, T), documents (B, T), (row, first token) of each text)."""
        most = min(_ROW, self.context)
        rows = [sorted(row) for row in texts_in_rows([len(ids) for ids in encoded], max([most, *map(len, encoded)]))]
        rows.sort(key=lambda row: (-sum(len(encoded[text]) for text in row), row))
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            width = max(sum(len(encoded[text]) for text in row) for row in part)
            ids, documents = np.zeros((len(part), width), np.int64), np.zeros((len(part), width), np.int32)
            order: list[int] = []
            places: list[tuple[int, int]] = []
            for number, row in enumerate(part):
                at = 0
                for count, text in enumerate(row):
                    ids[number, at : at + len(encoded[text])] = encoded[text]
                    documents[number, at : at + len(encoded[text])] = count
                    places.append((number, at))
                    at += len(encoded[text])
                documents[number, at:] = len(row)
                order += row
            yield order, torch.from_numpy(ids), torch.from_numpy(documents), places


def frame_of(model: Headed, tokenizer: Tokenizer, texts: int = 1) -> Frame:
    """How a model wants texts; `texts` of them share its context."""
    return Frame(tokenizer, isinstance(model.body, MaskedLM), model.config.context // texts, model.pooling == "first")


def best_span(scores_T2: np.ndarray, first: int, tokens: int) -> tuple[int, int, float]:
    """The likeliest stretch of `tokens` context tokens from `first` on, (start, end, nats), both within the context.

    (-1, -1, nats) where the first token of all, which stands for no answer, is likelier.
    """
    log_T2 = scores_T2.astype(np.float64) - np.logaddexp.reduce(scores_T2.astype(np.float64), axis=0)
    none = float(log_T2[0].sum())
    starts, ends = log_T2[first : first + tokens].T
    together = starts[:, None] + ends[None]
    apart = np.arange(tokens)[None] - np.arange(tokens)[:, None]
    together[(apart < 0) | (apart >= _MOST_WORDS)] = -np.inf
    start, end = np.unravel_index(int(together.argmax()), together.shape) if tokens else (0, 0)
    best = float(together[start, end]) if tokens else -np.inf
    return (int(start), int(end), best) if best >= none else (-1, -1, none)


def split_words(text: str) -> list[str]:
    """Words of a text for tagging: runs of letters and digits, each Han or kana character, and every other mark by itself.

    >>> split_words("Ada's 丹炉, 2.0")
    ["Ada's", '丹', '炉', ',', '2', '.', '0']
    """
    found: list[str] = []
    small, done = lowered(text), 0
    for word in plain_words(text):
        at = small.index(word, done)
        found += [mark for mark in text[done:at] if not mark.isspace()]
        found.append(text[at : at + len(word)])
        done = at + len(word)
    return found + [mark for mark in text[done:] if not mark.isspace()]


def save_headed(model: Headed, tokenizer: Tokenizer, folder: Path) -> None:
    """A folder that transformers opens; an embedding's also opens in sentence-transformers."""
    if model.config.head.task == "reward" and model.pooling == "last":
        tokenizer = _with_filling(model, tokenizer)
    save_model(model, folder)
    tokenizer.save(folder)
    (folder / "generation_config.json").unlink()
    if model.config.head.task != "embed":
        return
    kind = "sentence_transformers.models"
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write(folder / "modules.json", [
        {"idx": at, "name": str(at), "path": path, "type": f"{kind}.{name}"} for at, (path, name) in enumerate(modules)
    ])  # fmt: skip
    modes = {"first": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": model.config.width,
        **{f"pooling_mode_{mode}": mode == modes[model.pooling] for mode in modes.values()},
    })  # fmt: skip
    _write(folder / "sentence_bert_config.json", {"max_seq_length": model.config.context, "do_lower_case": False})
    _write(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})


def _with_filling(model: Headed, tokenizer: Tokenizer) -> Tokenizer:
    """Tokenizer and config with a filling token that ends no conversation: transformers' classes score the last token that is no
    filling, and fill rows of unequal lengths themselves."""
    last = conversation_ids(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])[-1]
    roles = (tokenizer.config.get(role) for role in ("pad_token", "unk_token", "eos_token", "bos_token"))
    names = [one["content"] if isinstance(one, dict) else one for one in roles]
    known = {name: tokenizer.vocab[name] for name in (*names, *tokenizer.special_tokens) if name in tokenizer.vocab}
    name = next((name for name, token in known.items() if token != last), None)
    if name is None:
        return tokenizer
    model.config.body = model.config.body.model_copy(update={"pad_token_id": known[name]})
    return Tokenizer(tokenizer.definition, {**tokenizer.config, "pad_token": name}, tokenizer.chat_template)


def _write(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def _listed(texts: str | Sequence[str]) -> list[str]:
    found = [texts] if isinstance(texts, str) else list(texts)
    if not found:
        raise BadInput("no text was given. Give one, or a list of them.")
    return found


def _softmax(scores_NC: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores_NC - scores_NC.max(1, keepdims=True))
    found: np.ndarray = shifted / shifted.sum(1, keepdims=True)
    return found


def _class_of(row: np.ndarray, labels: Sequence[str]) -> Class:
    best = int(row.argmax())
    return Class(labels[best], float(row[best]), dict(zip(labels, map(float, row), strict=True)))
