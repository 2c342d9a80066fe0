"""Embeddings: C70 to C72."""

import base64
import math
import struct
from typing import Any

from danlu.apps.conform.ask import answer, openai_client, wrong
from danlu.apps.conform.check import check, every, expect
from danlu.apps.conform.target import Target

PATH = "/v1/embeddings"
_TEXT = "a cup of tea 一杯茶"


def embed(target: Target, feature: str = "embeddings", **changes: Any) -> Any:
    """The answer to a small request."""
    return answer(target, PATH, {"model": target.model, "input": _TEXT, **changes}, feature)


@check("C70a")
def encodings(target: Target) -> None:
    """Base64 embeddings are the float32 numbers of the float ones, little end first."""
    plain = embed(target, encoding_format="float")["data"][0]["embedding"]
    packed = base64.b64decode(embed(target, encoding_format="base64")["data"][0]["embedding"], validate=True)
    found = struct.unpack(f"<{len(packed) // 4}f", packed)
    expect(len(found) == len(plain), f"{len(plain)} numbers", len(found))
    every(f"{one} in float, {two} in base64" for one, two in zip(plain, found, strict=True)
          if not math.isclose(one, two, rel_tol=1e-5, abs_tol=1e-6))  # fmt: skip


@check("C70b")
def client_default(target: Target) -> None:
    """The openai client gets numbers by its own default."""
    client = openai_client(target)
    embed(target)
    found = client.embeddings.create(model=target.model, input=_TEXT).data[0].embedding
    expect(all(isinstance(value, float) for value in found) and len(found) > 0, "a list of numbers", found[:3])


@check("C71a")
def input_forms(target: Target) -> None:
    """Input may be a text, texts, token ids, lists of token ids."""
    counts = [len(embed(target, input=value)["data"]) for value in (_TEXT, [_TEXT, "tea"], [11, 12], [[11, 12], [13]])]
    expect(counts == [1, 2, 1, 2], "1, 2, 1, 2 embeddings", counts)


@check("C71b")
def empty_input(target: Target) -> None:
    """Empty input is refused by name."""
    embed(target)
    bodies = ({"model": target.model, "input": value} for value in ("", [], [""], [[]], 7, None))
    every(filter(None, (wrong(target, PATH, one, "input") for one in bodies)))


@check("C71c")
def dimensions(target: Target) -> None:
    """Dimensions shortens embeddings to unit length, or is refused by name."""
    embed(target)
    reply = target.post(PATH, {"model": target.model, "input": _TEXT, "dimensions": 2, "encoding_format": "float"})
    if reply.status != 200:
        expect((reply.status, reply.error().get("param")) == (400, "dimensions"), "vectors, or 400 that names dimensions", reply)
        return
    found = reply.json()["data"][0]["embedding"]
    expect(len(found) == 2 and abs(math.hypot(*found) - 1) < 1e-3, "2 numbers of length 1", found)


@check("C72")
def shape(target: Target) -> None:
    """An answer is a list of embedding objects in order of index, with usage."""
    found = embed(target, input=[_TEXT, "tea"], encoding_format="float")
    expect(found["object"] == "list", "object list", found["object"])
    heads = [(one["object"], one["index"]) for one in found["data"]]
    expect(heads == [("embedding", 0), ("embedding", 1)], "two embeddings, 0 and 1", heads)
    used = found["usage"]
    expect(used["total_tokens"] == used["prompt_tokens"] > 0, "prompt_tokens = total_tokens > 0", used)
    alone = embed(target, input="tea", encoding_format="float")["data"][0]["embedding"]
    expect(all(abs(one - two) < 1e-4 for one, two in zip(alone, found["data"][1]["embedding"], strict=True)),
           "the embedding that the text has alone", "another")  # fmt: skip
