"""POST /v1/classify: classes with probabilities, or the number of a regression, from a model with such a head."""

from typing import Any

from fastapi import APIRouter, Request, Response

from danlu.core.errors import DanluError, PromptTooLong
from danlu.server.errors import ApiError, from_exception, invalid
from danlu.server.models import Served
from danlu.server.readings import Classify
from danlu.server.service import Service
from danlu.server.strict import Json, StrictRoute, service_of

router = APIRouter(route_class=StrictRoute)


@router.post("/v1/classify", tags=["classes"])
async def create_classification(body: Classify, request: Request) -> Response:
    """What each text is taken for."""
    service = service_of(request)
    served = classifier(service, body.model)
    texts = [body.input] if isinstance(body.input, str) else list(body.input)
    found, tokens = await classified(service, served, texts)
    data = [{"index": index, **told} for index, told in enumerate(found)]
    return Json({"object": "list", "model": body.model, "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


def classifier(service: Service, name: str) -> Served:
    """The model of that name, if it tells classes or numbers."""
    service.check_open()
    served, _ = service.models.find(name)
    if served.kind not in ("classify", "regress"):
        raise ApiError(400, f"The model '{name}' tells no classes. Serve one made by `danlu finetune --objective.name classify`.",
                       param="model", code="unsupported_model")  # fmt: skip
    return served


async def classified(service: Service, served: Served, texts: list[str]) -> tuple[list[dict[str, Any]], int]:
    """For each text its label and probabilities, or its score; and how many tokens were read."""

    def work() -> tuple[list[dict[str, Any]], int]:
        tokens = sum(len(served.model.frame.text(text)) for text in texts)
        with service.models.lock:
            found = served.model.classify(texts)
        if served.kind == "regress":
            return [{"score": float(one)} for one in found], tokens
        return [{"label": one.label, "probs": list(one.probabilities.values()), "labels": list(one.probabilities),
                 "num_classes": len(one.probabilities)} for one in found], tokens  # fmt: skip

    for number, text in enumerate(texts):
        if len(text.encode()) > served.longest_token * served.context:
            raise ApiError(400, f"Text {number} is longer than this model's context of {served.context} tokens can hold.",
                           param="input", code="context_length_exceeded")  # fmt: skip
    try:
        return await service.readers.run(service.limits.request_s, "Reading the texts", work)
    except PromptTooLong as error:
        raise ApiError(400, str(error.args[0]).partition(" Shorten")[0] + " Shorten it.", param="input",
                       code="context_length_exceeded") from None  # fmt: skip
    except DanluError as error:
        raise invalid("input", from_exception(error, {str(served.path): served.id}).message) from None
