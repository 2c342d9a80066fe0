"""Vectors and rankings: /v1/embeddings in OpenAI's shape, /v1/rerank in Jina's and Cohere's, by cosine of those vectors."""

import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from danlu.core.errors import DanluError, PromptTooLong
from danlu.server.asking import check_ids
from danlu.server.errors import ApiError, from_exception, invalid
from danlu.server.models import Served
from danlu.server.readings import Document, Embeddings, Rerank
from danlu.server.service import Service
from danlu.server.strict import Json, StrictRoute, service_of

router = APIRouter(route_class=StrictRoute)


@router.post("/v1/embeddings", tags=["vectors"])
async def create_embeddings(body: Embeddings, request: Request) -> Response:
    """A vector of length one for each text."""
    service = service_of(request)
    served = embedder(service, body.model)
    texts = [text_of(served, part) for part in inputs(body)]
    vectors, tokens = await embedded(service, served, texts, body.dimensions, "input")
    as_text = body.given("encoding_format") == "base64"
    data = [{"object": "embedding", "index": index, "embedding": base64_of(vector) if as_text else vector.tolist()}
            for index, vector in enumerate(vectors)]  # fmt: skip
    return Json({"object": "list", "data": data, "model": body.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


@router.post("/v1/rerank", tags=["vectors"])
async def rerank(body: Rerank, request: Request) -> Response:
    """Documents by their likeness to a query, the likest first."""
    service = service_of(request)
    served = embedder(service, body.model)
    documents = [part.text if isinstance(part, Document) else part for part in body.documents]
    vectors, tokens = await embedded(service, served, [body.query, *documents], None, "documents")
    scores = vectors[1:] @ vectors[0]
    best = np.argsort(-scores, kind="stable")[: body.top_n or len(documents)]
    results: list[dict[str, Any]] = [{"index": int(at), "relevance_score": float(scores[at])} for at in best]
    if body.given("return_documents"):
        for result in results:
            result["document"] = {"text": documents[result["index"]]}
    return Json(
        {"object": "list", "model": body.model, "results": results, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    )


def embedder(service: Service, name: str) -> Served:
    """The model of that name, if it makes vectors."""
    service.check_open()
    served, adapter = service.models.find(name)
    if served.kind != "embed" or adapter:
        makers = [one.id for one in service.models.all if one.kind == "embed"]
        hint = f"Ask for {' or '.join(makers)}." if makers else "Serve one made by `danlu finetune --objective.name contrastive`."
        raise ApiError(400, f"The model '{name}' makes no vectors. {hint}", param="model", code="unsupported_model")
    return served


def inputs(body: Embeddings) -> list[Any]:
    """The texts or lists of ids of a request."""
    found = body.input
    return [found] if isinstance(found, str) or isinstance(found[0], int) else list(found)


def text_of(served: Served, part: Any) -> str:
    """A text, or that of token ids; ids that this model would not read for a text are refused."""
    if isinstance(part, str):
        return part
    check_ids(served, part, "input")
    text = served.tokenizer.decode(part)
    if served.tokenizer.encode(text) != part:
        raise invalid("input", "These token ids are not how this model reads any text. Send the text itself.")
    return text


async def embedded(
    service: Service, served: Served, texts: list[str], dimensions: int | None, param: str
) -> tuple[np.ndarray, int]:
    """Vectors (N, D) and the number of tokens read."""

    def work() -> tuple[np.ndarray, int]:
        tokens = sum(len(served.model.frame.text(text)) for text in texts)
        with service.models.lock:
            return served.model.embed(texts, dim=dimensions), tokens

    for number, text in enumerate(texts):
        if len(text.encode()) > served.longest_token * served.context:
            raise ApiError(400, f"Text {number} has {len(text.encode())} bytes, more than this model's context of "
                                f"{served.context} tokens can hold.", param=param, code="context_length_exceeded")  # fmt: skip
    try:
        return await service.readers.run(service.limits.request_s, "Reading the texts", work)
    except PromptTooLong as error:
        raise ApiError(400, str(error.args[0]).partition(" Shorten")[0] + " Shorten it.", param=param,
                       code="context_length_exceeded") from None  # fmt: skip
    except DanluError as error:
        told = from_exception(error, {str(served.path): served.id})
        raise invalid("dimensions" if dimensions else param, told.message) from None


def base64_of(vector: np.ndarray) -> str:
    """Little-endian float32, as OpenAI's clients read it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
