"""The tokens that stand around a text that an encoder reads, as its tokenizer.json says."""

from collections.abc import Sequence

from danlu.tokenizer.tokenizer import Tokenizer


def frame(tokenizer: Tokenizer) -> tuple[Sequence[int], Sequence[int]]:
    """Tokens before and after a text, as the post-processor of tokenizer.json puts them.

    A tokenizer without one (those made here) ends a source as it ends a document.
    """
    if tokenizer.parts.get("post_processor") is not None:
        bare = tokenizer.reference.encode("a", add_special_tokens=False).ids
        framed = tokenizer.reference.encode("a", add_special_tokens=True).ids
        places = [at for at in range(len(framed) - len(bare) + 1) if framed[at : at + len(bare)] == bare]
        if places and len(framed) > len(bare):
            return framed[: places[0]], framed[places[0] + len(bare) :]
    return [], ([] if tokenizer.eos_id is None else [tokenizer.eos_id])
