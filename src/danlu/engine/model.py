"""A model folder opened for use: text in, text out, or logits for those who want to look inside."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.core import lineage
from danlu.core.errors import BadInput, NotAnArtifact, TokenizerMismatch
from danlu.core.settings import load as check
from danlu.engine.adapted import Laid, lay
from danlu.engine.constraint import Constraint
from danlu.engine.decode import Decoder, ModelDecoder, PrefixDecoder, Seq2SeqDecoder
from danlu.engine.fill import Filled, fill
from danlu.engine.generate import Writing, answer_room
from danlu.engine.heads import HeadedModel
from danlu.engine.numpy_decode import NumpyDecoder, Prepared, prepare
from danlu.engine.request import Sampling
from danlu.engine.source import around_ids, source_ids
from danlu.models.adapters.base import merge
from danlu.models.adapters.peft import is_adapter
from danlu.models.base import LanguageModel, MaskedLM, Seq2SeqLM
from danlu.models.heads import Headed, is_headed, load_headed
from danlu.models.weights import load_model, read_config
from danlu.tokenizer.tokenizer import Tokenizer

_PADDING = 64
"""Model tables are often padded by some rows beyond the tokenizer's vocabulary, for even shapes."""


def load(path: Path | str, device: str | None = None) -> "Model | HeadedModel":
    """Open a model folder, made here or anywhere, on `device` (left out: a GPU where there is one).

    A folder with a head for a task in place of words (`danlu finetune`) opens as a HeadedModel (heads.py); an adapter's folder
    opens with its base, merged in memory where it is a change of weights.
    Raises NotAnArtifact, UnsupportedModel, DamagedWeights or TokenizerMismatch.
    """
    path = Path(path)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if is_adapter(path):
        return opened(path, lay(path), place)
    if not (path / "config.json").is_file():
        found = "there is no such folder" if not path.exists() else "it holds no config.json"
        raise NotAnArtifact(
            f"{path} is not a model folder: {found}. Give the --out of `danlu pretrain`, or a Hugging Face model."
        )
    tokenizer = Tokenizer.open(path)
    if is_headed(read_config(path)):
        return HeadedModel(load_headed(path).to(place), tokenizer, path)
    model = load_model(path).eval()
    check_vocabulary(path, model.vocab_size, tokenizer.vocab_size)
    return Model(model.to(place), tokenizer, path, _ends(path, tokenizer), both_ways=_reads_both_ways(path))


def opened(path: Path, laid: Laid, device: str = "cpu", merged: bool = True) -> "Model | HeadedModel":
    """A base with an adapter on it, opened for use. merged: whether the weights take the adapter in, where they can."""
    if merged and laid.model.adapter.merges:
        merge(laid.model)
    if isinstance(laid.model, Headed):
        return HeadedModel(laid.model.to(device), laid.tokenizer, path)
    check_vocabulary(path, laid.model.vocab_size, laid.tokenizer.vocab_size)
    spoken = path if (path / "generation_config.json").is_file() else laid.base
    both_ways = _reads_both_ways(laid.base) or _reads_both_ways(path)
    return Model(laid.model.to(device), laid.tokenizer, path, _ends(spoken, laid.tokenizer), both_ways=both_ways)


def check_vocabulary(path: Path, model_size: int, tokenizer_size: int) -> None:
    """Raise TokenizerMismatch unless the model embeds the tokenizer's vocabulary, a little padding allowed."""
    padding = max(_PADDING, tokenizer_size // 256)
    if not tokenizer_size <= model_size <= tokenizer_size + padding:
        raise TokenizerMismatch(
            f"{path}: the model embeds {model_size} tokens but tokenizer.json defines {tokenizer_size}. "
            f"Use the tokenizer that was saved with the model."
        )


def _ends(path: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that end an answer: the tokenizer's and those of generation_config.json."""
    place = path / "generation_config.json"
    said = json.loads(place.read_text(encoding="utf-8")).get("eos_token_id") if place.is_file() else None
    listed = said if isinstance(said, list) else [said]
    return frozenset(token for token in [tokenizer.eos_id, *listed] if token is not None)


def _reads_both_ways(path: Path) -> bool:
    """Whether the folder's record says that its prompts were prefixes; other tools have no word for it."""
    if not (path / lineage.NAME).is_file():
        return False
    record = lineage.read(path)
    objective = record.settings.get("objective")
    return record.metrics.get("both_ways") is True or (isinstance(objective, dict) and objective.get("name") == "prefix")


@dataclass
class Model:
    """An opened model. `model` is the torch module, `tokenizer` its tokenizer."""

    model: LanguageModel
    tokenizer: Tokenizer
    path: Path
    ends: frozenset[int] = frozenset()
    fast: bool = True
    """Decode through prepared NumPy weights where the family allows it; off, always through the torch module."""
    both_ways: bool = False
    """Whether the model was trained to read prompts both ways (--objective.name prefix)."""
    _prepared: Prepared | None = field(default=None, repr=False)

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return int(self.model.config.context) - getattr(self.model, "ahead", 0)

    def encode(self, text: str) -> list[int]:
        """Ids of a prompt: the token that begins a document, where there is one, then the text. Special tokens stay text."""
        begin = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        return [*begin, *self.tokenizer.encode(text)]

    def generate(self, text: str, **settings: Any) -> str:
        """The answer to a prompt, without the prompt. Settings are those of `Sampling`: max_tokens, temperature, seed, ..."""
        return "".join(self.stream(text, **settings))

    def stream(self, text: str, **settings: Any) -> Iterator[str]:
        """The answer in pieces of whole characters, as they come; joined they equal `generate`."""
        return iter(self.write(text, check(Sampling, settings, "sampling")))

    def write(self, text: str, sampling: Sampling, form: Constraint | None = None) -> Writing:
        """An answer to be iterated, with its ids and the reason why it ended. Raises PromptTooLong before any work.

        form: what the answer is held to, made by constrain/compile.py; for one answer (or its `clone()`).
        """
        self.check_writes()
        if isinstance(self.model, Seq2SeqLM):
            return self._answer(text, sampling, form)
        return self._go_on(self.encode(text), sampling, form)

    def infill(self, prefix: str, suffix: str, **settings: Any) -> str:
        """What stands between two texts, for a model trained with --objective.name fim. Raises BadInput for any other."""
        return "".join(self.write_between(prefix, suffix, check(Sampling, settings, "sampling")))

    def write_between(self, prefix: str, suffix: str, sampling: Sampling) -> Writing:
        """The middle of two texts, to be iterated as an answer is."""
        self.check_writes()
        if isinstance(self.model, Seq2SeqLM):
            raise BadInput(
                f"{self.path} ({self.model.config.name}) reads a text and writes another: it fills stretches behind marks such "
                f"as <|extra_0|> in its prompt. Leave the suffix out, or use a model trained with --objective.name fim."
            )
        return self._go_on(around_ids(self.tokenizer, prefix, suffix), sampling)

    def _go_on(self, prompt: list[int], sampling: Sampling, form: Constraint | None = None) -> Writing:
        room = answer_room(len(prompt), sampling.max_tokens, self.context)
        return Writing(self.decoder(len(prompt) + room), prompt, room, sampling, self.tokenizer, self.ends, constraint=form)

    def _answer(self, text: str, sampling: Sampling, form: Constraint | None) -> Writing:
        """An encoder-decoder reads the text as its source; what it writes begins with a token of its own."""
        source = source_ids(self.tokenizer, text, self.context)
        start = self.model.config.decoder_start_token_id
        begin = [self.tokenizer.start_id if start is None else start]
        room = answer_room(len(begin), sampling.max_tokens, self.context)
        decoder = Seq2SeqDecoder(self.model, source, len(begin) + room)
        return Writing(decoder, begin, room, sampling, self.tokenizer, self.ends, len(source), form)

    def check_writes(self) -> None:
        """Raise BadInput for a model that fills gaps and cannot write on."""
        if isinstance(self.model, MaskedLM):
            mask = self.tokenizer.mask_token or "its mask token"
            raise BadInput(
                f"{self.path} is a masked model ({self.model.config.name}): it fills gaps and cannot write on. Put {mask} where "
                f"a token is missing, in `danlu generate` or model.fill(text); for text that goes on, train with "
                f"--objective.name causal."
            )

    def check_goes_on(self) -> None:
        """Raise BadInput for a model whose prompt and answer are no one text, so that there is no conversation to go on with."""
        self.check_writes()
        if isinstance(self.model, Seq2SeqLM):
            raise BadInput(
                f"{self.path} is an encoder-decoder ({self.model.config.name}): it reads one text and writes another, and "
                f"holds no conversation. Use `danlu generate {self.path} TEXT`, or a model trained with --objective.name causal."
            )

    def check_foresees(self) -> None:
        """Raise BadInput for an encoder-decoder: its nats are those of an answer to a source, not of a text."""
        if isinstance(self.model, Seq2SeqLM):
            raise BadInput(
                f"{self.path} is an encoder-decoder ({self.model.config.name}): it foresees what it writes about a source, and "
                f"no text by itself, so it has no perplexity and no bits per byte. Its card shows the held-out loss of its "
                f"objective; judge its answers, or compare texts with a model trained with --objective.name causal."
            )

    def fill(self, text: str, top_k: int = 5) -> Filled:
        """The text with its gaps (the mask token) filled, and the `top_k` likeliest tokens of each. For masked models."""
        if not isinstance(self.model, MaskedLM):
            raise BadInput(
                f"{self.path} ({self.model.config.name}) writes on and cannot fill gaps: use generate(text), or a model trained "
                f"with --objective.name masked."
            )
        return fill(self.model, self.tokenizer, text, top_k)

    def decoder(self, capacity: int) -> Decoder:
        """The fastest decoder this model has, with room for `capacity` tokens."""
        if self.both_ways:
            return PrefixDecoder(self.model, capacity)
        if self.fast and self._prepared is None:
            self._prepared = prepare(self.model)
            self.fast = self._prepared is not None
        return NumpyDecoder(self._prepared, capacity) if self._prepared else ModelDecoder(self.model, capacity)

    @torch.inference_mode()
    def logits(self, ids: Sequence[Sequence[int]] | np.ndarray | Tensor, source: Any = None) -> Tensor:
        """Logits of every next token: ids (B, T) to float32 (B, T, V), on the processor.

        source: (B, S) ids that an encoder reads, for models that have one. Raises BadInput where it is missing or out of place.
        """
        if isinstance(self.model, Seq2SeqLM) != (source is not None):
            wants = "also needs what its encoder reads: logits(ids, source)" if source is None else "has no encoder: logits(ids)"
            raise BadInput(f"{self.path} ({self.model.config.name}) {wants}.")
        given = [ids] if source is None else [ids, source]
        ids_BT, *more = (torch.as_tensor(part, dtype=torch.int64, device=self.model.device) for part in given)
        return self.model(ids_BT, **({"source_BS": more[0]} if more else {})).float().cpu()
