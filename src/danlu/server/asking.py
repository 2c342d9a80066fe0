"""From the fields of a request to a job of the engine: settings of sampling, room for the answer, constraint, deadline."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from danlu.engine import constrain
from danlu.engine.constrain.compile import compile as compile_form
from danlu.engine.constraint import Constraint
from danlu.engine.job import Job
from danlu.engine.request import Sampling
from danlu.server.chance import fresh_seed
from danlu.server.errors import ApiError, clean, invalid, too_long
from danlu.server.fields import Drawn
from danlu.server.models import Served
from danlu.server.service import Caller, Service

_NEXT_TO_NOTHING = 1e-9


@dataclass(frozen=True)
class Asked:
    """A request that is understood, before its prompt is known."""

    served: Served
    adapter: str | None
    sampling: Sampling
    stops: tuple[str, ...]
    ends: frozenset[int]
    constraint: Constraint | None
    form: str
    """Kind of the constraint, or text."""


async def understand(service: Service, request: Drawn, form: tuple[str, Any] | None = None, chat: bool = False) -> Asked:
    """Check a request against its model. form: a plan's, in place of the request's own. Raises ApiError."""
    served, adapter = service.models.find(request.model, request.adapter)
    check_writes(served)
    ends = served.model.ends | (served.turn_ends if chat else frozenset())
    wanted = form or form_of(request)
    constraint = await compiled(service, served, wanted, ends) if wanted else None
    return Asked(served, adapter, sampling_of(request, served), tuple(request.stops), ends, constraint,
                 wanted[0] if wanted else "text")  # fmt: skip


def check_writes(served: Served) -> None:
    """Raise ApiError for a model without words."""
    if not served.writes:
        use = {"embed": "/v1/embeddings or /v1/rerank", "classify": "/v1/classify", "regress": "/v1/classify"}
        raise ApiError(400, f"The model '{served.id}' writes no text: it is made for another task ({served.kind}). Use "
                            f"{use.get(served.kind, 'another model')}.", param="model", code="unsupported_model")  # fmt: skip


def sampling_of(request: Drawn, served: Served) -> Sampling:
    """The settings that the engine draws by; exactly those of the request, with its defaults."""
    known = served.tokenizer.vocab_size
    biases = {int(name): value for name, value in (request.logit_bias or {}).items()}
    if wrong := [token for token in biases if token >= known]:
        raise invalid("logit_bias", f"There is no token {wrong[0]}: this model's ids are 0 to {known - 1}.")
    top_k = request.top_k if request.top_k and request.top_k > 0 else None
    return Sampling(
        temperature=request.given("temperature"), top_k=None if top_k is None else min(top_k, known),
        top_p=max(request.given("top_p"), _NEXT_TO_NOTHING), min_p=request.given("min_p"), typical_p=request.given("typical_p"),
        repetition_penalty=request.given("repetition_penalty"), frequency_penalty=request.given("frequency_penalty"),
        presence_penalty=request.given("presence_penalty"), logit_bias=biases, min_tokens=request.given("min_tokens"),
        ignore_eos=request.given("ignore_eos"), seed=fresh_seed() if request.seed is None else request.seed,
    )  # fmt: skip


def form_of(request: Drawn) -> tuple[str, Any] | None:
    """Kind and spec of the constraint that a request asks for."""
    for name in ("regex", "grammar", "choices"):
        if (value := getattr(request, name)) is not None:
            return name, value
    match request.response_format:
        case None:
            return None
        case found if found.type == "json_object":
            return "json_object", None
        case found if found.type == "json_schema" and found.json_schema is not None:
            schema = found.json_schema.schema_
            return "json_schema", {} if schema is None else schema
    return None


async def compiled(service: Service, served: Served, form: tuple[str, Any], ends: frozenset[int]) -> Constraint:
    """The constraint, compiled on a worker thread."""
    kind, spec = form
    limits = constrain.Limits(compile_s=service.limits.prepare_s / 2)
    what = f"Compiling the {kind.replace('_', ' ')}"
    try:
        found: Constraint = await service.workers.run(
            service.limits.prepare_s, what, compile_form, kind, spec, served.tokenizer, ends, limits
        )
    except constrain.BadForm as error:
        param, told = _at_fault(kind, str(error.args[0]))
        raise invalid(param, f"'{param}': {clean(told)}", "unsupported_form") from None
    return found


def _at_fault(kind: str, told: str) -> tuple[str, str]:
    """The field that a form came from, and what is wrong with it; framed forms name their part (framing.py)."""
    if kind != "framed":
        return kind if kind in ("regex", "grammar", "choices") else "response_format", told
    part = re.match(r"(?:arguments_(\d+)|(form)): ", told)
    if part is None:
        return "tools", told
    return "response_format" if part[2] else f"tools[{part[1]}].function.parameters", told[part.end() :]


def room_of(service: Service, served: Served, prompt_tokens: int, asked: int | None, answers: int, *, param: str,
            sampling: Sampling, wanted: str = "max_tokens") -> int:  # fmt: skip
    """Tokens that each answer may have. Raises ApiError where prompt and answer do not fit; nothing is made smaller silently."""
    left = served.context - prompt_tokens
    if left < (1 if asked is None else asked):
        raise too_long(prompt_tokens, served.context, asked, param)
    most = service.limits.answer_tokens // answers
    room = min(left, service.limits.max_tokens, most) if asked is None else asked
    if room > most:
        raise invalid(wanted, f"'{wanted}' times the number of answers may be {service.limits.answer_tokens} on this server.")
    if sampling.min_tokens > room:
        raise invalid("min_tokens", f"'min_tokens' is {sampling.min_tokens} and an answer may have {room} tokens here.")
    return room


def check_bytes(served: Served, text: str, param: str) -> None:
    """Raise ApiError for a text that cannot fit the context, before it is tokenised."""
    size = len(text.encode("utf-8"))
    if size > served.longest_token * served.context:
        fewest = -(-size // served.longest_token)
        raise ApiError(
            400,
            f"This model's context is {served.context} tokens. The prompt has {size} bytes, which is at least {fewest} tokens. "
            f"Shorten the prompt; nothing is cut silently here.",
            param=param, code="context_length_exceeded",
        )  # fmt: skip


def check_ids(served: Served, ids: Sequence[int], param: str) -> None:
    """Raise ApiError for ids outside the vocabulary."""
    known = served.tokenizer.vocab_size
    if not ids:
        raise invalid(param, f"'{param}' is empty and this model's tokenizer has no token to begin with. Give some text.")
    if max(ids) >= known:
        raise invalid(param, f"There is no token {max(ids)}: this model's ids are 0 to {known - 1}.")


def job_of(service: Service, asked: Asked, ids: Sequence[int], room: int, *, caller: Caller, choices: int = 1,
           logprobs: int | None = None, prompt_logprobs: int | None = None,
           source: Sequence[int] | None = None) -> Job:  # fmt: skip
    """The job itself."""
    return Job(
        tuple(ids), asked.sampling, room, asked.ends, choices, logprobs, prompt_logprobs, constraint=asked.constraint,
        adapter=asked.adapter, owner=caller.owner, deadline=time.monotonic() + service.limits.request_s,
        source=None if source is None else tuple(source),
    )  # fmt: skip


async def tokenised(service: Service, served: Served, text: str, param: str) -> list[int]:
    """Ids of a prompt with what begins a document, on a worker thread."""
    check_bytes(served, text, param)
    found: list[int] = await service.workers.run(service.limits.prepare_s, "Tokenising the prompt", served.model.encode, text)
    return found
