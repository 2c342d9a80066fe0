"""vLLM, in this process, for machines that it runs on (mostly GPUs).

Written against its 0.x interface. Our tests hold the calls to a stand-in with the shapes of its documentation: no machine of ours
has the real one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from danlu.core.errors import BadSettings, MissingExtra
from danlu.core.settings import Named
from danlu.engine.backends import BACKENDS, Answer, Prompt
from danlu.engine.backends.ids import check_fits, pair_ids, prompt_ids
from danlu.engine.generate import answer_room
from danlu.engine.request import Sampling
from danlu.tokenizer.tokenizer import Tokenizer


@BACKENDS.register
class VLLM:
    """See Backend. Ids come from the folder's tokenizer as Danlu reads it; with chance in play its draws are its own."""

    class Config(Named):
        name: Literal["vllm"] = "vllm"
        path: Path
        """Folder of the model."""
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        """Type of its weights; auto: as stored."""
        context: int | None = Field(None, gt=0)
        """Most tokens of prompt and answer together; left out, the model's own."""
        memory_share: float = Field(0.9, gt=0, le=1)
        """Share of the GPU's memory that it takes."""

    def __init__(self, config: Config):
        try:
            import vllm
        except ModuleNotFoundError:
            raise MissingExtra("vllm", needed_for="the vllm backend") from None
        self._library: Any = vllm
        self._tokenizer = Tokenizer.open(config.path)
        self._model: Any = vllm.LLM(
            model=str(config.path), dtype=config.dtype, max_model_len=config.context, trust_remote_code=False,
            gpu_memory_utilization=config.memory_share,
        )  # fmt: skip

    @property
    def _context(self) -> int:
        return int(self._model.llm_engine.model_config.max_model_len)

    def write(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        """See Backend.write. Raises BadSettings for typical_p, which vLLM does not have."""
        if sampling.typical_p != 1:
            raise BadSettings("vLLM has no typical_p. Leave it out, or use the local backend.")
        ids = [prompt_ids(self._tokenizer, prompt) for prompt in prompts]
        settings = [self._settings(sampling, answer_room(len(one), sampling.max_tokens, self._context)) for one in ids]
        found = self._model.generate([{"prompt_token_ids": one} for one in ids], settings, use_tqdm=False)
        answers = [one.outputs[0] for one in found]
        return [
            Answer(answer.text, "length" if answer.finish_reason == "length" else "stop", len(one), len(answer.token_ids))
            for one, answer in zip(ids, answers, strict=True)
        ]

    def score(self, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """See Backend.score."""
        pairs = [pair_ids(self._tokenizer, first, second) for first, second in texts]
        for ids, _ in pairs:
            check_fits(ids, self._context - 1)  # it writes one token, which nobody reads
        settings = self._library.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        found = self._model.generate([{"prompt_token_ids": ids} for ids, _ in pairs], settings, use_tqdm=False)
        return [
            [float(one.prompt_logprobs[at][ids[at]].logprob) for at in range(begin, len(ids))]
            for one, (ids, begin) in zip(found, pairs, strict=True)
        ]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See Backend.embed; the folder must be one that vLLM opens as a pooling model."""
        found = self._model.embed(list(texts), use_tqdm=False)
        vectors_ND = np.array([one.outputs.embedding for one in found], np.float32)
        return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)

    def close(self) -> None:
        """See Backend.close."""
        del self._model

    def _settings(self, sampling: Sampling, room: int) -> Any:
        return self._library.SamplingParams(
            max_tokens=room, temperature=sampling.temperature, top_p=sampling.top_p,
            top_k=sampling.top_k or 0, min_p=sampling.min_p, repetition_penalty=sampling.repetition_penalty,
            frequency_penalty=sampling.frequency_penalty, presence_penalty=sampling.presence_penalty, seed=sampling.seed,
            stop=list(sampling.stop) or None, min_tokens=sampling.min_tokens, ignore_eos=sampling.ignore_eos,
            logit_bias=dict(sampling.logit_bias) or None,
        )  # fmt: skip
