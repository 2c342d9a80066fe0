"""The routes of models that write: chats, completions, tokens, and the list of models."""

from typing import Any

from fastapi import APIRouter, Request, Response

from danlu.core.errors import DanluError
from danlu.server.chat import ChatRun, count_chat, plan_of, prompt_of, run_chat
from danlu.server.completions import run_completion
from danlu.server.errors import from_exception, invalid, no_model
from danlu.server.fields import Chat, Completion
from danlu.server.formats import Answer, chunks, gather, usage_of, whole
from danlu.server.generation import until_gone
from danlu.server.models import describe
from danlu.server.readings import Detokenize, Tokenize
from danlu.server.service import Service
from danlu.server.stream import EventStream
from danlu.server.strict import Json, StrictRoute, caller_of, disconnected, service_of

router = APIRouter(route_class=StrictRoute)


@router.get("/v1/models", tags=["models"])
async def list_models(request: Request) -> Response:
    """Every model and adapter that can be asked."""
    models = service_of(request).models
    return Json({"object": "list", "data": [describe(name, one, adapter) for name, one, adapter in models.names()]})


@router.get("/v1/models/{model:path}", tags=["models"])
async def retrieve_model(model: str, request: Request) -> Response:
    """One of them; the id may hold slashes."""
    models = service_of(request).models
    for name, one, adapter in models.names():
        if name == model or (adapter and f"{one.id}:{adapter}" == model):
            return Json(describe(model, one, adapter, whole=True))
    raise no_model(model, [name for name, _, _ in models.names()])


@router.post("/v1/chat/completions", tags=["text"])
async def create_chat_completion(body: Chat, request: Request) -> Response:
    """The next turn of a conversation."""
    service, caller = service_of(request), caller_of(request)
    check_moderation(service, body)
    run = await run_chat(service, body, caller)
    applied = caller.applied or bool(body.danlu and body.danlu.applied)

    async def finish(answers: list[Answer]) -> dict[str, Any]:
        more = {"danlu": {"applied": run.applied()}} if applied else {}
        return more | await moderated(service, run, answers)

    if body.stream:
        await started(run, service)
        return EventStream(chunks(run, finish), close=run.close, ping_s=service.limits.ping_s)
    try:
        answers = await until_gone(lambda: disconnected(request), gather(run))
        return Json(whole(run, answers, await finish(answers)))
    finally:
        run.close()


async def started(run: Any, service: Service) -> None:
    """Wait for a stream's first sign; where it fails, nothing runs on."""
    try:
        await run.first(service.limits.first_s)
    except BaseException:
        run.close()
        raise


def check_moderation(service: Service, body: Chat) -> None:
    """Raise ApiError where a verdict is asked for and no guard is there to give it."""
    if body.moderation is not None:
        if service.guard is None:
            raise invalid("moderation", "No guard is configured on this server: start it with --guard RULES.yaml or a "
                                        "classifier's folder, or leave 'moderation' out.", "unsupported_parameter")  # fmt: skip
        service.guard.check_name(body.moderation.model, "moderation.model")


async def moderated(service: Service, run: ChatRun, answers: list[Answer]) -> dict[str, Any]:
    """The verdict on prompt and answers, in OpenAI's slot for it."""
    if run.request.moderation is None:
        return {}
    said = [message.text or "" for message in run.request.messages if message.role == "user"]
    spoken = [answer.text for answer in answers]
    return {"moderation": {"input": await verdict(service, said), "output": await verdict(service, spoken)}}


async def verdict(service: Service, texts: list[str]) -> dict[str, Any]:
    """Results for texts, or why there are none."""
    try:
        results = await service.readers.run(service.limits.request_s, "Judging the text", service.guard.judge, texts)
    except Exception as error:
        told = from_exception(error)
        return {"type": "error", "code": told.code or "server_error", "message": told.message}
    return {"type": "moderation_results", "model": service.guard.name, "results": results}


@router.post("/v1/chat/completions/input_tokens", tags=["tokens"])
async def count_chat_tokens(body: Chat, request: Request) -> Response:
    """How many tokens the prompt of a chat has; nothing is written."""
    return Json({"object": "chat.completion.input_tokens", "input_tokens": await count_chat(service_of(request), body)})


@router.post("/v1/completions", tags=["text"])
async def create_completion(body: Completion, request: Request) -> Response:
    """How a text goes on."""
    service, caller = service_of(request), caller_of(request)
    run = await run_completion(service, body, caller)
    applied = caller.applied or bool(body.danlu and body.danlu.applied)

    def more() -> dict[str, Any]:
        return {"danlu": {"applied": run.applied()}} if applied else {}

    if body.stream:
        await started(run, service)
        counted = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(run.chunks(counted, more), close=run.close, ping_s=service.limits.ping_s)
    try:
        await until_gone(lambda: disconnected(request), run.gather())
        return Json(run.head() | {"choices": run.choices(), "usage": usage_of(run.usage)} | more())
    finally:
        run.close()


@router.post("/tokenize", tags=["tokens"])
async def tokenize(body: Tokenize, request: Request) -> Response:
    """The tokens of a text or of a conversation."""
    service = service_of(request)
    served, _ = service.models.find(body.model)
    if body.messages is not None:
        chat = Chat(model=body.model or served.id, messages=body.messages, tools=body.tools)
        _, plan = await plan_of(service, chat)
        ids = (await prompt_of(service, plan, served, body.given("add_generation_prompt"))).ids
    else:
        tokenizer, text = served.tokenizer, body.prompt or ""
        begin = [tokenizer.bos_id] if body.given("add_special_tokens") and tokenizer.bos_id is not None else []
        try:
            ids = begin + await service.workers.run(service.limits.prepare_s, "Tokenising the text", tokenizer.encode, text)
        except DanluError as error:
            raise from_exception(error) from None
    more = {"token_strs": [served.tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids]}
    return Json({"count": len(ids), "max_model_len": served.context, "tokens": ids} | (more if body.return_token_strs else {}))


@router.post("/detokenize", tags=["tokens"])
async def detokenize(body: Detokenize, request: Request) -> Response:
    """The text of tokens."""
    service = service_of(request)
    served, _ = service.models.find(body.model)
    known = served.tokenizer.vocab_size
    if body.tokens and max(body.tokens) >= known:
        raise invalid("tokens", f"There is no token {max(body.tokens)}: this model's ids are 0 to {known - 1}.")
    return Json({"prompt": served.tokenizer.decode(body.tokens)})
