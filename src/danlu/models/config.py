"""Settings of a model family, in Hugging Face's names, and the way to and from their config.json.

A field of config.json is one of four things: a setting here; a fact with only one value computed here (`fixed`); a
bookkeeping field that changes no result (`IGNORED`); or a reason to refuse the model. Nothing is skipped unseen.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationError

from danlu.core.errors import UnsupportedModel
from danlu.core.settings import Named

IGNORED = frozenset((
    "architectures", "model_type", "dtype", "torch_dtype", "transformers_version", "use_cache", "_name_or_path", "auto_map",
    "attn_implementation", "_attn_implementation", "output_attentions", "output_hidden_states", "return_dict", "pretraining_tp",
    "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout",  # training settings of another tool
    "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
    "task_specific_params", "n_ctx", "max_window_layers", "sliding_window", "gradient_checkpointing", "chunk_size_feed_forward",
    "id2label", "label2id", "problem_type", "danlu_head", "is_decoder", "tokenizer_class", "unsloth_version", "unsloth_fixed",
))  # fmt: skip
"""Fields of config.json that change no logit of the families here."""


class ModelConfig(Named):
    """Base of the families' settings."""

    hf_type: ClassVar[str]
    """`model_type` in config.json."""
    hf_class: ClassVar[str]
    """`architectures` in config.json."""
    required: ClassVar[tuple[str, ...]]
    """Settings that config.json must give: sizes are never guessed."""
    absent: ClassVar[dict[str, Any]] = {}
    """What transformers means by a missing field, where that differs from the default here."""
    fixed: ClassVar[dict[str, Collection[Any]]] = {}
    """Fields that change results, with the only values computed here; the first is what is written."""
    harmless: ClassVar[Collection[str]] = ()
    """Fields that change no result in this family, beside those of IGNORED."""
    sizes: ClassVar[dict[str, str]] = {
        "width": "hidden_size", "inner": "intermediate_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
        "context": "max_position_embeddings",
    }  # fmt: skip
    """What the family calls the sizes that a budget decides, and that are read here as `width`, `depth` and `context`; one that
    it lacks is left out."""
    ties: ClassVar[bool] = False
    """Whether a new model of the family shares the embedding with its head."""

    vocab_size: int = Field(4096, gt=0)
    """Tokens the model knows; pre-training sets it to the tokenizer's size."""
    tie_word_embeddings: bool = True
    """One matrix both reads and predicts tokens."""
    initializer_range: float = 0.02
    """Standard deviation of a matrix before training."""
    bos_token_id: int | None = None
    """Token that opens a document."""
    eos_token_id: int | list[int] | None = None
    """Token or tokens that end an answer."""
    pad_token_id: int | None = None
    """Token that fills short rows."""

    @classmethod
    def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
        """Settings of a new model with the sizes that a budget chose; a family with further sizes derives them here."""
        chosen = {"width": width, "inner": inner, "layers": layers, "heads": heads, "context": context}
        return {setting: chosen[size] for size, setting in cls.sizes.items()}

    @classmethod
    def stored(cls, given: Mapping[str, Any]) -> float:
        """Feed-forward weights kept for each one that a token meets, in a model of `sized` with what was given beside."""
        return 1.0

    @property
    def width(self) -> int:
        """Channels of the residual stream."""
        return int(getattr(self, self.sizes["width"]))

    @property
    def depth(self) -> int:
        """Layers."""
        return int(getattr(self, self.sizes["layers"]))

    @property
    def context(self) -> int:
        """Most tokens a row was made for."""
        return int(getattr(self, self.sizes["context"]))

    @property
    def attention_width(self) -> int:
        """Channels of all query heads together; as many as the stream has where the family does not say otherwise."""
        return self.width

    @classmethod
    def from_hf(cls, found: dict[str, Any]) -> Self:
        """Read a config.json. Raises UnsupportedModel listing everything missing, unknown or not computed here."""
        found, wrong = cls.read_rope(dict(found))
        known = set(cls.model_fields) - {"name"}
        wrong += [f"{key}: missing" for key in cls.required if found.get(key) is None]
        for key, value in found.items():
            if key in cls.fixed:
                if not _allowed(value, cls.fixed[key]):
                    wrong.append(f"{key}: {value!r} (computed here: {', '.join(map(repr, cls.fixed[key]))})")
            elif key not in known and key not in IGNORED and key not in cls.harmless:
                wrong.append(f"{key}: {value!r} (no such field in {cls.hf_type})")
        if wrong:
            raise UnsupportedModel(_refusal(cls.hf_type, wrong))
        chosen = {**cls.absent, **{key: value for key, value in found.items() if key in known}}
        try:
            return cls(**chosen)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, line['loc']))}: {line['msg']} (found {line['input']!r})" for line in error.errors()]
            raise UnsupportedModel(_refusal(cls.hf_type, lines)) from None

    @classmethod
    def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Positions as a family without rotary embedding reads them: nothing to do."""
        return found, []

    def to_hf(self) -> dict[str, Any]:
        """The config.json that transformers reads as this model."""
        own = self.model_dump(mode="json", exclude={"name"})
        fixed = {key: next(iter(values)) for key, values in self.fixed.items()}
        return {"architectures": [self.hf_class], "model_type": self.hf_type, **fixed, **own}


class Seq2SeqConfig(ModelConfig):
    """Settings that every encoder-decoder has."""

    fixed: ClassVar[dict[str, Collection[Any]]] = {"is_encoder_decoder": (True,)}
    harmless: ClassVar[Collection[str]] = (
        "dropout", "dropout_rate", "activation_dropout", "classifier_dropout", "classif_dropout", "encoder_layerdrop",
        "decoder_layerdrop", "init_std", "initializer_factor", "num_labels", "_num_labels", "output_past", "num_hidden_layers",
        "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "num_beams", "early_stopping", "no_repeat_ngram_size",
        "length_penalty", "max_length", "min_length", "prefix",  # how another tool draws an answer
    )  # fmt: skip

    decoder_start_token_id: int | None = None
    """Token that opens what the decoder writes; pre-training sets it to the tokenizer's."""


def _allowed(value: Any, values: Collection[Any]) -> bool:
    if isinstance(value, list):  # one entry a layer
        return all(_allowed(part, values) for part in value)
    return any(value is good if isinstance(good, bool) or good is None else value == good for good in values)


def _refusal(hf_type: str, lines: list[str]) -> str:
    return "\n  ".join([
        f"config.json ({hf_type}) asks for {len(lines)} thing(s) that are not computed here:", *lines,
        "Its results would be wrong without them. Choose another model, or a family that has them.",
    ])  # fmt: skip
