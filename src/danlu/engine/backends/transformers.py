"""Hugging Face transformers, in this process: the reference that others are compared with, one prompt after another."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from danlu.core.errors import BadInput, BadSettings, MissingExtra
from danlu.core.settings import Named
from danlu.engine.backends import BACKENDS, Answer, Prompt
from danlu.engine.backends.ids import check_fits, check_pair, pair_ids, prompt_ids
from danlu.engine.generate import answer_room
from danlu.engine.request import Sampling
from danlu.engine.source import source_ids
from danlu.engine.stop import StopWatch
from danlu.objectives.frame import Frame
from danlu.tokenizer.tokenizer import Tokenizer

_UNKNOWN = ("frequency_penalty", "presence_penalty", "logit_bias")
"""Settings that its generate has no word for."""


@BACKENDS.register
class Transformers:
    """See Backend. Ids come from the folder's tokenizer as Danlu reads it; with chance in play its draws are its own."""

    class Config(Named):
        name: Literal["transformers"] = "transformers"
        path: Path
        """Folder of the model."""
        device: str = "cpu"
        """Where it computes."""
        dtype: Literal["float32", "bfloat16", "float16"] = "float32"
        """Type of its weights."""

    def __init__(self, config: Config):
        try:
            import transformers
        except ModuleNotFoundError:
            raise MissingExtra("transformers", needed_for="the transformers backend") from None
        self._path, self._device = config.path, config.device
        self._tokenizer = Tokenizer.open(config.path)
        self._safely = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        self._library: Any = transformers
        settings = transformers.AutoConfig.from_pretrained(config.path, local_files_only=True, trust_remote_code=False)
        self._reads_a_source = bool(settings.is_encoder_decoder)
        self._embeds = (config.path / "1_Pooling" / "config.json").is_file()
        kind = "AutoModel" if self._embeds else "AutoModelForSeq2SeqLM" if self._reads_a_source else "AutoModelForCausalLM"
        self._model: Any = getattr(transformers, kind).from_pretrained(
            config.path, dtype=getattr(torch, config.dtype), **self._safely
        ).eval().to(config.device)  # fmt: skip
        if not self._embeds:
            self._said_ends = self._model.generation_config.eos_token_id
            self._model.generation_config = transformers.GenerationConfig()  # what a folder prefers must not join what is asked
        said = (getattr(settings, name, None) for name in ("max_position_embeddings", "n_positions", "seq_length"))
        self._context = next((int(tokens) for tokens in said if tokens), 1 << 30)

    def write(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        """See Backend.write. Raises BadSettings for settings that its generate does not know."""
        self._check_words("writes no texts")
        given = Sampling()
        if unknown := [name for name in _UNKNOWN if getattr(sampling, name) != getattr(given, name)]:
            raise BadSettings(f"transformers' generate has no {', '.join(unknown)}. Leave them out, or use the local backend.")
        return [self._answer(prompt, sampling) for prompt in prompts]

    def score(self, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """See Backend.score."""
        self._check_words("foresees no texts")
        return [self._scores(first, second) for first, second in texts]

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See Backend.embed; for folders that say how tokens are pooled, as sentence-transformers lays them out."""
        if not self._embeds:
            raise BadInput(f"{self._path} makes no vectors: it has no 1_Pooling/config.json that says how tokens are pooled.")
        pooling = json.loads((self._path / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
        vectors = []
        for text in texts:
            ids = self._framed(text)
            check_fits(ids, self._context)
            ids_1T = torch.tensor([ids], device=self._device)
            hidden_TD = self._model(input_ids=ids_1T).last_hidden_state[0].float()
            ways = {"cls_token": hidden_TD[0], "mean_tokens": hidden_TD.mean(0), "lasttoken": hidden_TD[-1]}
            chosen = next(vector for way, vector in ways.items() if pooling.get(f"pooling_mode_{way}"))
            vectors.append(torch.nn.functional.normalize(chosen, dim=0).cpu().numpy())
        return np.stack(vectors)

    def close(self) -> None:
        """See Backend.close."""
        del self._model

    def _framed(self, text: str) -> list[int]:
        """As the folder's tokenizer frames a text; one that says nothing about it, as Danlu trained it (encoders hide tokens)."""
        if self._tokenizer.parts.get("post_processor") is not None:
            framed: list[int] = self._tokenizer.reference.encode(text).ids
            return framed
        return Frame(self._tokenizer, self._tokenizer.mask_id is not None, self._context, first=False).text(text)

    def _check_words(self, lacks: str) -> None:
        if self._embeds:
            raise BadInput(f"{self._path} {lacks}: it makes vectors.")

    @torch.inference_mode()
    def _answer(self, prompt: Prompt, sampling: Sampling) -> Answer:
        if self._reads_a_source:
            if not isinstance(prompt, str):
                raise BadInput(
                    f"{self._path} is an encoder-decoder: it reads one text and writes another, and answers no messages."
                )
            ids, held = source_ids(self._tokenizer, prompt, self._context), 1
        else:
            ids = prompt_ids(self._tokenizer, prompt)
            held = len(ids)
        room = answer_room(held, sampling.max_tokens, self._context)
        ids_1T = torch.tensor([ids], device=self._device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed)
            found = self._model.generate(
                input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), generation_config=self._settings(sampling, room)
            )
        written = found[0].tolist()[held:]
        ends = self._ends(sampling)
        ended = bool(written) and written[-1] in ends
        text, watch = self._tokenizer.decoder(), StopWatch(sampling.stop)
        shown, hidden = "", frozenset(self._tokenizer.special_tokens.values())
        for used, token in enumerate(written[: len(written) - ended], start=1):
            shown += watch.push("" if token in hidden else text.push(token))
            if watch.found is not None:
                return Answer(shown, "stop", len(ids), used)
        shown += watch.push(text.flush().rstrip("\ufffd")) + watch.flush()
        return Answer(shown, "stop" if ended or watch.found is not None else "length", len(ids), len(written))

    def _ends(self, sampling: Sampling) -> list[int]:
        said = self._said_ends
        listed = [] if sampling.ignore_eos else [self._tokenizer.eos_id, *(said if isinstance(said, list) else [said])]
        return sorted({token for token in listed if token is not None})

    def _settings(self, sampling: Sampling, room: int) -> Any:
        chance = {} if sampling.temperature == 0 else {
            "temperature": sampling.temperature, "top_k": sampling.top_k or 0, "top_p": sampling.top_p,
            "min_p": sampling.min_p or None, "typical_p": sampling.typical_p,
        }  # fmt: skip
        return self._library.GenerationConfig(
            max_new_tokens=room, min_new_tokens=sampling.min_tokens or None, do_sample=bool(chance), num_beams=1,
            repetition_penalty=sampling.repetition_penalty, eos_token_id=self._ends(sampling) or None, pad_token_id=0,
            decoder_start_token_id=self._start() if self._reads_a_source else None, **chance,
        )  # fmt: skip

    def _start(self) -> int:
        said = self._model.config.decoder_start_token_id
        return self._tokenizer.start_id if said is None else int(said)

    @torch.inference_mode()
    def _scores(self, first: str, second: str) -> list[float]:
        more: dict[str, Any] = {}
        if self._reads_a_source:
            check_pair(first, second)
            source = source_ids(self._tokenizer, first, self._context)
            ids, begin = [self._start(), *self._tokenizer.encode(second)], 1
            more = {"input_ids": torch.tensor([source], device=self._device)}
        else:
            ids, begin = pair_ids(self._tokenizer, first, second)
        check_fits(ids, self._context)
        ids_1T = torch.tensor([ids], device=self._device)
        more |= {"decoder_input_ids" if self._reads_a_source else "input_ids": ids_1T}
        logits_TV = self._model(**more).logits[0].float()
        nats_TV = logits_TV[begin - 1 : -1, : self._tokenizer.vocab_size].log_softmax(-1)  # rows beyond are padding
        found: list[float] = nats_TV.gather(1, ids_1T[0, begin:, None])[:, 0].tolist()
        return found
