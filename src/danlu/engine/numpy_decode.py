"""Fast decoding of small pre-norm RMSNorm families (qwen3, llama) on the processor.

At one token a step a small model spends its time on calls, not on arithmetic: NumPy's calls cost a third of a tensor library's.
So weights are prepared once and a step makes few calls: projections that share their input are one matrix; gains and scales are
folded into what follows; the two channels of a rotary plane lie side by side, so that turning is one complex multiplication.
Plain twin: ModelDecoder. Families it does not know exactly go that way.

T new tokens, S tokens in all, D width, H heads, G key-value heads, R = H / G, K head width, L layers, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import torch

from danlu.models.adapters.base import is_adapted
from danlu.models.base import CausalLM
from danlu.models.decoder import DecoderConfig
from danlu.nn.rope_scaling import scaled

_FAMILIES = ("qwen3", "llama")
_LARGEST = 200_000_000  # parameters; beyond it memory bandwidth decides, and a second copy of the weights would not be small
_ONE = np.float32(1)  # a Python number would be converted at every call
_PIECE = 256  # tokens of a prompt read at once: bounds the scores to H x 256 x S


@dataclass(frozen=True)
class Layer:
    """One decoder layer; matrices are (in, out), so that rows of tokens stand on the left."""

    qkv: np.ndarray
    """(D, (H + 2G) K), the gain of the first norm folded in; planes of queries and keys side by side."""
    out: np.ndarray
    """(H K, D)."""
    gate_up: np.ndarray
    """(D, 2F), the gain of the second norm folded in."""
    down: np.ndarray
    """(F, D)."""
    gain: np.ndarray | None
    """(H + G, K): gains of the norms over queries and keys, where the family has them."""


@dataclass(frozen=True)
class Prepared:
    """Weights of a model, ready for decoding."""

    embed: np.ndarray
    """(V, D)."""
    layers: list[Layer]
    head: np.ndarray
    """(D, V), the gain of the last norm folded in."""
    heads: int
    groups: int
    width: int
    eps: float
    config: DecoderConfig
    """Says how fast planes turn."""


def prepare(model: CausalLM) -> Prepared | None:
    """Weights for NumpyDecoder, or None where this family, device or dtype is not what it computes."""
    config = model.config
    if config.name not in _FAMILIES or is_adapted(model):
        return None
    weight = model.output_weight
    fits = weight.device.type == "cpu" and model.activation_dtype == weight.dtype == torch.float32
    fits = fits and sum(part.numel() for part in model.parameters()) <= _LARGEST
    if not fits or not _plain_shape(config):
        return None
    table = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    layers = [_layer(table, f"model.layers.{index}.", config) for index in range(config.num_hidden_layers)]
    gain = table["model.norm.weight"] * np.float32(config.hidden_size**0.5)
    head = np.ascontiguousarray((weight.detach().numpy() * gain).T)
    return Prepared(table["model.embed_tokens.weight"], layers, head, config.num_attention_heads, config.key_heads,
                    config.head_width, config.rms_norm_eps, config)  # fmt: skip


def _plain_shape(config: DecoderConfig) -> bool:
    """Whether nothing is switched on that the steps below leave out."""
    return not config.attention_bias and not getattr(config, "mlp_bias", False) and set(config.windows) == {None}


def _layer(table: dict[str, np.ndarray], at: str, config: DecoderConfig) -> Layer:
    heads, groups, width = config.num_attention_heads, config.key_heads, config.head_width
    planes = np.arange(width).reshape(2, -1).T.ravel()  # 0, K/2, 1, K/2 + 1, ...

    def rows(name: str, gain: str) -> np.ndarray:
        """(out, D) with the gain of the norm before it, and the root that `_scaled` leaves out."""
        return table[f"{at}{name}.weight"] * (table[f"{at}{gain}.weight"] * np.float32(config.hidden_size**0.5))

    def turned(name: str) -> np.ndarray:
        whole = rows(f"self_attn.{name}", "input_layernorm")
        return whole.reshape(-1, width, whole.shape[1])[:, planes].reshape(whole.shape)

    query, gain = turned("q_proj"), None
    if f"{at}self_attn.q_norm.weight" in table:  # for queries the root of K cancels the scale of the scores
        gains = [np.tile(table[f"{at}self_attn.q_norm.weight"][planes], (heads, 1)),
                 np.tile(table[f"{at}self_attn.k_norm.weight"][planes] * np.float32(width**0.5), (groups, 1))]  # fmt: skip
        gain = np.concatenate(gains)
    else:
        query = query * np.float32(width**-0.5)
    qkv = np.concatenate([query, turned("k_proj"), rows("self_attn.v_proj", "input_layernorm")])
    gate_up = np.concatenate([rows(f"mlp.{name}", "post_attention_layernorm") for name in ("gate_proj", "up_proj")])
    out, down = table[f"{at}self_attn.o_proj.weight"], table[f"{at}mlp.down_proj.weight"]
    return Layer(*(np.ascontiguousarray(part.T) for part in (qkv, out, gate_up, down)), gain=gain)


class NumpyDecoder:
    """See Decoder. State: keys and values (L, G, capacity, K), turns (capacity, K / 2)."""

    def __init__(self, weights: Prepared, capacity: int):
        self.weights, self.length = weights, 0
        w = weights
        self._keys = np.empty((len(w.layers), w.groups, capacity, w.width), np.float32)
        self._values = np.empty_like(self._keys)
        self._turns = _turns(capacity, w.config)
        self._width_eps, self._head_eps = np.float32(w.eps * w.embed.shape[1]), np.float32(w.eps * w.width)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """See Decoder.read."""
        with np.errstate(over="ignore"):  # exp(-x) of a very negative gate is infinite, and its sigmoid rightly zero
            for start in range(0, len(ids), _PIECE):
                x_TD = self._advance(ids[start : start + _PIECE])
        return (_scaled(x_TD[-1:], self._width_eps) @ self.weights.head)[0]

    def _advance(self, ids: np.ndarray) -> np.ndarray:
        x_TD, eps = self.weights.embed[ids], self._width_eps
        for index, layer in enumerate(self.weights.layers):
            x_TD += self._attend(index, layer, _scaled(x_TD, eps)) @ layer.out
            both = _scaled(x_TD, eps) @ layer.gate_up
            inner = layer.down.shape[0]
            gate, up = both[:, :inner], both[:, inner:]
            x_TD += (gate / (_ONE + np.exp(-gate)) * up) @ layer.down
        self.length += len(ids)
        return x_TD

    def _attend(self, index: int, layer: Layer, x_TD: np.ndarray) -> np.ndarray:
        """Attention of T new tokens over all S so far, (T, D) to (T, H K)."""
        w, new = self.weights, len(x_TD)
        now, total = self.length, self.length + new
        qkv = (x_TD @ layer.qkv).reshape(new, -1, w.width)
        turned = qkv[:, : w.heads + w.groups]
        if layer.gain is not None:
            turned = _scaled(turned, self._head_eps) * layer.gain
        turned = (turned.view(np.complex64) * self._turns[now:total, None]).view(np.float32)
        keys_GSK, values_GSK = self._keys[index], self._values[index]
        keys_GSK[:, now:total] = turned[:, w.heads :].swapaxes(0, 1)
        values_GSK[:, now:total] = qkv[:, w.heads + w.groups :].swapaxes(0, 1)
        q_GMK = turned[:, : w.heads].reshape(new, w.groups, -1, w.width).transpose(1, 2, 0, 3).reshape(w.groups, -1, w.width)
        score_GMS = q_GMK @ keys_GSK[:, :total].swapaxes(1, 2)  # M = R x T
        if new > 1:
            later_TS = np.arange(total) > np.arange(now, total)[:, None]
            score_GMS.reshape(w.groups, -1, new, total)[..., later_TS] = -np.inf
        score_GMS -= np.maximum.reduce(score_GMS, axis=-1, keepdims=True)
        np.exp(score_GMS, out=score_GMS)
        mixed_GMK = score_GMS @ values_GSK[:, :total]
        mixed_GMK /= np.add.reduce(score_GMS, axis=-1, keepdims=True)
        return mixed_GMK.reshape(w.groups, -1, new, w.width).transpose(2, 0, 1, 3).reshape(new, -1)


def _scaled(x: np.ndarray, eps: np.float32) -> np.ndarray:
    """x over the root of its sum of squares (and eps times its width): RMS norm but for the gain and a root of the width."""
    root = np.vecdot(x, x)[..., None]
    root += eps
    return x / np.sqrt(root, out=root)


def _turns(capacity: int, config: DecoderConfig) -> np.ndarray:
    """exp(i angle) for every position and plane times the attention scale, complex64 (capacity, K / 2)."""
    found, scale = scaled(config.rope_scaling, config.head_width, config.rope_theta, config.max_position_embeddings, capacity)
    return (scale * np.exp(1j * np.arange(capacity)[:, None] * found.double().numpy())).astype(np.complex64)
