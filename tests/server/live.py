"""Our own server as a stranger meets it: with a key, a model that writes, and one that makes vectors."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.server.running import KEY, keyed, made_service, serving
from tests.server.speaker import write_speaker
from tests.tiny import tiny_tokenizer

from danlu.engine.opening import Serving
from danlu.server.limits import Limits
from danlu.server.models import Served

__all__ = ["KEY", "live"]

_CONTEXT = 8192
"""Room for answers that take long enough to hang up in; guesses, always right with this model, would make them short."""


@contextmanager
def live(folder: Path, *, embedder: bool = False, rows: int = 8, **limits: Any):
    """The address of a server of `maker/speaker`, and of `embedder` where wanted; it asks for KEY."""
    served = [Served("maker/speaker", write_speaker(folder / "speaker", context=_CONTEXT))]
    if embedder:
        served.append(Served("embedder", write_embedder(folder / "embedder")))
    service = made_service(*served, serving=Serving(rows=rows, cache_tokens=2 * _CONTEXT, guess="off"), limits=Limits(**limits))
    with serving(service, keyed(), KEY) as running:
        yield running.url


def write_embedder(folder: Path) -> Path:
    """A model of random weights that makes vectors."""
    from danlu.engine.heads import save_headed
    from danlu.models import MODELS
    from danlu.models.heads import HeadConfig, attach

    tokenizer = tiny_tokenizer()
    body = MODELS["qwen3"].tiny(vocab_size=tokenizer.vocab_size, max_position_embeddings=66, initializer_range=0.3)
    save_headed(attach(body, HeadConfig(task="embed", pooling="mean"), seed=4).eval(), tokenizer, folder)
    return folder
