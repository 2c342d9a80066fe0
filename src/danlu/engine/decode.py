"""Reading tokens one piece at a time: the general way, for every family, through the model and its own decoding state."""

from typing import Protocol

import numpy as np
import torch

from danlu.models.base import CausalLM


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
        self._state = model.new_state(1, capacity)
        self._device = model.device

    @torch.inference_mode()
    def read(self, ids: np.ndarray) -> np.ndarray:
        """See Decoder.read. Source of truth for all decoders."""
        ids_1T = torch.from_numpy(ids).to(self._device)[None]
        logits_1TV = self.model(ids_1T, state=self._state)
        self.length += len(ids)
        return logits_1TV[0, -1].float().cpu().numpy()
