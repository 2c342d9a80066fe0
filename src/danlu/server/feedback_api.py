"""Pairs of answers for people to judge: what the studio's page of feedback asks for, stored by apps/feedback.

Every route needs the key, as all others do. Which model wrote which answer is never told, and neither is the folder. Names of
annotators are as trustworthy as those who give them: whoever has the key may use any.

GET /v1/danlu/feedback?annotator=NAME
    {"object": "danlu.feedback", "name": "prefs", "progress": {"pairs": 40, "judged": 12, "yours": 5},
     "question": {"pair": "000006", "prompt": [{"role": "user", "content": "..."}], "answers": ["...", "..."],
                  "before": {"choice": "first", "reason": "..."} | null} | null}
    `name` is null where `danlu serve` was started without --feedback DIR; `question` where nothing is left, or nobody is named.
POST /v1/danlu/feedback           {"annotator", "pair", "choice": first|second|tie|bad|skip, "reason", "seconds"} -> the same
POST /v1/danlu/feedback/undo      {"annotator"} -> the same, with the pair that was judged last, and what was said of it
    An answer means that the judgement is on disk. Judging a pair again replaces what the same annotator said of it before.
"""

import threading
import time
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from danlu.apps.feedback.collection import MOST_REASON, Choice, Collection, Judgement, Question, check_annotator
from danlu.core.errors import BadInput
from danlu.server.conversation import Strict
from danlu.server.errors import ApiError, invalid
from danlu.server.service import Service
from danlu.server.strict import Json, StrictRoute, service_of

router = APIRouter(route_class=StrictRoute, prefix="/v1/danlu/feedback", tags=["studio"])
HELD_S = 900.0
"""So long a pair that one person judges is kept for whoever looks at it."""


class Judged(Strict):
    """POST /v1/danlu/feedback"""

    annotator: str = Field(min_length=1, max_length=64)
    """Who judges."""
    pair: str = Field(min_length=1, max_length=64)
    """Which pair of answers, as the question named it."""
    choice: Choice
    """The better answer as shown (first, second), both as good (tie), both bad (bad), or no judgement (skip)."""
    reason: str = Field("", max_length=MOST_REASON)
    """Why; may be empty."""
    seconds: float | None = Field(None, ge=0, le=86400)
    """Time that it took."""


class Undone(Strict):
    """POST /v1/danlu/feedback/undo"""

    annotator: str = Field(min_length=1, max_length=64)
    """Whose last judgement is taken back."""


class Desk:
    """A collection that several people judge at once: nobody is given a pair that somebody else is looking at."""

    def __init__(self, collection: Collection):
        self.collection = collection
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def next(self, annotator: str) -> Question | None:
        """What an annotator judges next; it is kept for them for a while."""
        with self._lock:
            now = time.monotonic()
            self._held = {pair: (who, until) for pair, (who, until) in self._held.items() if until > now and who != annotator}
            question = self.collection.next(annotator, self._held)
            if question is not None:
                self._held[question.pair.id] = (annotator, now + HELD_S)
            return question


@router.get("")
async def ask(request: Request, annotator: str = Query("", max_length=64)) -> Response:
    """How far judging has come, and what this annotator judges next."""
    desk: Desk | None = service_of(request).feedback
    if desk is None:
        return Json({"object": "danlu.feedback", "name": None, "progress": None, "question": None})
    return Json(await run_in_threadpool(_told, desk, annotator))


@router.post("")
async def judge(body: Judged, request: Request) -> Response:
    """Keep a judgement, and tell what comes next."""
    desk = _desk(service_of(request))

    def work() -> dict[str, Any]:
        _checked(body.annotator)
        try:
            desk.collection.judge(body.pair, body.annotator, body.choice, body.reason, body.seconds)
        except BadInput as error:
            raise invalid("pair", str(error.args[0]), "unknown_pair") from None
        return _told(desk, body.annotator)

    return Json(await run_in_threadpool(work))


@router.post("/undo")
async def undo(body: Undone, request: Request) -> Response:
    """Take the last judgement back, and ask again."""
    desk = _desk(service_of(request))

    def work() -> dict[str, Any]:
        _checked(body.annotator)
        mine = [one for one in desk.collection.judgements() if one.annotator == body.annotator]
        question = desk.collection.undo(body.annotator)
        if question is None:
            return _told(desk, body.annotator)
        before = next(one for one in reversed(mine) if one.pair == question.pair.id)
        return {**_told(desk, ""), "progress": desk.collection.progress(body.annotator), "question": _shown(question, before)}

    return Json(await run_in_threadpool(work))


def _desk(service: Service) -> Desk:
    found: Desk | None = service.feedback
    if found is None:
        raise ApiError(404, "This server collects no feedback. Start it with --feedback DIR.", code="feedback_off")
    return found


def _checked(annotator: str) -> None:
    try:
        check_annotator(annotator)
    except BadInput as error:
        raise invalid("annotator", str(error.args[0])) from None


def _told(desk: Desk, annotator: str) -> dict[str, Any]:
    if annotator:
        _checked(annotator)
    question = desk.next(annotator) if annotator else None
    name = desk.collection.folder.resolve().name.removesuffix(".run")
    return {"object": "danlu.feedback", "name": name, "progress": desk.collection.progress(annotator),
            "question": _shown(question, None) if question else None}  # fmt: skip


def _shown(question: Question, before: Judgement | None) -> dict[str, Any]:
    """A pair without what would tell whose it is."""
    said = None if before is None else {"choice": before.choice, "reason": before.reason}
    prompt = [{"role": one.get("role", ""), "content": str(one.get("content") or "")} for one in question.pair.prompt]
    return {"pair": question.pair.id, "prompt": prompt, "answers": list(question.texts), "before": said}
