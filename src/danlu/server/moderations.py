"""A guard: rules (words and regular expressions by category) or a classifier made here; /v1/moderations asks it.

Rules are a YAML file: a category's name, below it `words: [...]` (whole words, any case) and `patterns: [...]` (regular
expressions, each with a time limit). A classifier is a folder of `danlu finetune --objective.name classify`; labels that mean
that all is well (safe, ok, ...) flag nothing.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import regex
import yaml
from fastapi import APIRouter, Request, Response

from danlu.core.errors import BadSettings
from danlu.server.errors import ApiError
from danlu.server.readings import Moderations
from danlu.server.strict import Json, StrictRoute, service_of

router = APIRouter(route_class=StrictRoute)
SAFE = frozenset({"safe", "ok", "clean", "benign", "neutral", "none", "harmless", "non-toxic", "not_toxic", "安全", "正常"})
_PATTERN_S, _MOST_CHARS = 1.0, 1 << 20


class Judge(Protocol):
    """Scores of categories, 0 to 1, for each text."""

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text every category."""
        ...


class Guard:
    """Judges texts under a name."""

    def __init__(self, name: str, judge: Judge, threshold: float = 0.5):
        self.name, self._judge, self._threshold = name, judge, threshold

    def judge(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Results in OpenAI's shape."""
        return [self._result(scores) for scores in self._judge.scores(texts)]

    def _result(self, scores: Mapping[str, float]) -> dict[str, Any]:
        over = {name: score >= self._threshold for name, score in scores.items()}
        return {"flagged": any(over.values()), "categories": over, "category_scores": dict(scores),
                "category_applied_input_types": {name: ["text"] for name in scores}}  # fmt: skip

    def check_name(self, name: str | None, param: str = "model") -> None:
        """Raise ApiError (404) for another guard's name."""
        if name is not None and name != self.name:
            raise ApiError(404, f"There is no guard '{name[:100]}' here; this server's is '{self.name}'.", param=param,
                           code="model_not_found")  # fmt: skip


class Rules:
    """Words and patterns."""

    def __init__(self, tree: Any, origin: str):
        if not isinstance(tree, Mapping) or not tree:
            raise BadSettings(f"--guard {origin}: expected categories, each with `words:` or `patterns:`.")
        self._patterns = {str(name): self._compiled(str(name), part, origin) for name, part in tree.items()}

    def _compiled(self, name: str, part: Any, origin: str) -> list[Any]:
        lists = part if isinstance(part, Mapping) else {}
        words, patterns = lists.get("words", []), lists.get("patterns", [])
        if (
            set(lists) - {"words", "patterns"}
            or not isinstance(words, list)
            or not isinstance(patterns, list)
            or not (words or patterns)
        ):
            raise BadSettings(f"--guard {origin}: {name} needs `words: [...]` or `patterns: [...]`, and has nothing else.")
        told = [rf"(?<!\w){regex.escape(str(word))}(?!\w)" if str(word).isascii() else regex.escape(str(word)) for word in words]
        try:
            return [regex.compile(text, regex.IGNORECASE) for text in (*told, *map(str, patterns))]
        except regex.error as error:
            raise BadSettings(f"--guard {origin}: a pattern of {name} is no regular expression: {error}.") from None

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """1 where a word or pattern is found."""
        return [{name: float(self._hit(found, text[:_MOST_CHARS])) for name, found in self._patterns.items()} for text in texts]

    def _hit(self, patterns: Sequence[Any], text: str) -> bool:
        try:
            return any(pattern.search(text, timeout=_PATTERN_S) for pattern in patterns)
        except TimeoutError:
            return True  # a text that takes a rule so long is not let through


class Classifier:
    """A model of classes."""

    def __init__(self, model: Any, lock: threading.Lock):
        self._model, self._lock = model, lock

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Probabilities of the labels that flag something; a long text is judged by its beginning."""
        with self._lock:
            found = self._model.classify([text or " " for text in texts], overlong="truncate")
        return [{label: part for label, part in one.probabilities.items() if label.lower() not in SAFE} for one in found]


def open_guard(path: Path, lock: threading.Lock) -> Guard:
    """A guard from a file of rules or a classifier's folder. Raises BadSettings."""
    if path.is_dir():
        from danlu.engine.model import load

        model: Any = load(path)
        if getattr(model, "task", None) != "classify":
            raise BadSettings(f"--guard {path} is no classifier. Give one made by `danlu finetune --objective.name classify`.")
        return Guard(path.resolve().name, Classifier(model, lock))
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadSettings(
            f"--guard {path} cannot be read: {type(error).__name__}. Give a YAML file of rules or a model folder."
        ) from None
    return Guard(path.stem, Rules(tree, path.name))


@router.post("/v1/moderations", tags=["safety"])
async def create_moderation(body: Moderations, request: Request) -> Response:
    """What the server's guard says about texts."""
    service = service_of(request)
    if service.guard is None:
        raise ApiError(404, "No guard is configured on this server. Start it with --guard RULES.yaml (words, expressions) "
                            "or --guard FOLDER (a classifier made by `danlu finetune`).", code="no_guard")  # fmt: skip
    service.guard.check_name(body.model)
    given = [body.input] if isinstance(body.input, str) else body.input
    texts = [part if isinstance(part, str) else part.text for part in given]
    results = await service.readers.run(service.limits.request_s, "Judging the texts", service.guard.judge, texts)
    return Json({"id": f"modr-{caller_id(request)}", "model": service.guard.name, "results": results})


def caller_id(request: Request) -> str:
    """The request's own number."""
    return str(request.scope.get("state", {}).get("request_id", "")).removeprefix("req_")
