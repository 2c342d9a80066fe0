"""Reading tokens one piece at a time: the general way, for every family, through the model and its own decoding state."""

from typing import Protocol

import numpy as np
import torch

from danlu.models.base import CausalLM, Seq2SeqLM


class Decoder(Protocol):
    """What has been read of one request; knows what comes next."""

    length: int
    """How many tokens have been read."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Take in the next tokens, int64 (T,) with T >= 1; returns float32 logits (V,) for the one after the last."""
        ...


class ModelDecoder:
    """Decoding by `model.forward`: the plain twin of every faster way, and the way of families that have none."""

    def __init__(self, model: CausalLM, capacity: int):
        self.model, self.length = model, 0
        self._state = model.new_state(1, capacity + model.ahead)
        self._device = model.device

    @torch.inference_mode()
    def read(self, ids: np.ndarray) -> np.ndarray:
        """See Decoder.read. Source of truth for all decoders."""
        ids_1T = torch.from_numpy(ids).to(self._device)[None]
        logits_1TV = self.model(ids_1T, state=self._state)
        self.length += len(ids)
        return logits_1TV[0, -1].float().cpu().numpy()


class PrefixDecoder(ModelDecoder):
    """Decoding for a model whose prompts were prefixes: the first tokens read see one another both ways."""

    @torch.inference_mode()
    def read(self, ids: np.ndarray) -> np.ndarray:
        """See Decoder.read."""
        if self.length:
            return super().read(ids)
        ids_1T = torch.from_numpy(ids).to(self._device)[None]
        hidden_1TD = self.model.hidden(ids_1T, prefix_BT=torch.ones_like(ids_1T, dtype=torch.bool), state=self._state)
        self.length += len(ids)
        logits_1V = self.model.logits(hidden_1TD[:, -1])
        return logits_1V[0].float().cpu().numpy()


class Seq2SeqDecoder:
    """Decoding beside a source, which is encoded once, before the first token is read."""

    def __init__(self, model: Seq2SeqLM, source: list[int], capacity: int):
        self.model, self.length = model, 0
        self._state = model.new_state(1, capacity)
        self._device = model.device
        self._source: list[int] | None = source

    @torch.inference_mode()
    def read(self, ids: np.ndarray) -> np.ndarray:
        """See Decoder.read."""
        encoded_1SD = None
        if self._source is not None:
            encoded_1SD = self.model.encode(torch.tensor([self._source], device=self._device))
            self._source = None  # from here on the state holds its keys and values
        ids_1T = torch.from_numpy(ids).to(self._device)[None]
        hidden_1TD = self.model.hidden(ids_1T, source_BSD=encoded_1SD, state=self._state)
        self.length += len(ids)
        return self.model.logits(hidden_1TD[:, -1])[0].float().cpu().numpy()
