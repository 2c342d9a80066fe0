"""What the studio's page asks for: the live engine, run folders while they train, and the artefacts behind served models.

Every route needs the key (`Authorization: Bearer KEY` or `x-api-key: KEY`); only /health and the page's own static files do not.
Names and numbers only: no path of this machine leaves the server. Times are seconds since 1970, as numbers. A field without a
value is null. Errors have the usual body {"error": {...}}.

GET /v1/danlu/engine                                                       poll it about once a second
    {"object": "danlu.engine", "time": 1764000000.5, "uptime_s": 12.3, "version": "0.1.0", "draining": false,
     "models": [{"id": "tiny", "kind": "causal" | "seq2seq" | "embed" | "classify" | "regress",
                 "state": "ready" | "loading" | "stalled" | "dead", "context": 2048, "kernel": "native int8",
                 "fingerprint": "dl_0123456789ab", "adapters": ["tiny:law"], "chat": true,
                 "running": 2, "waiting": 0, "rows": 16, "steps": 1234, "preemptions": 0,
                 "blocks": {"total": 256, "used": 12, "cached": 40, "free": 204, "tokens": 16} | null,
                 "prefix": {"queried_tokens": 5120, "hit_tokens": 4096},
                 "tokens": {"prompt": 5120, "generated": 800},
                 "rates": {"prompt_tokens_per_s": 0.0, "generated_tokens_per_s": 71.2},          over the last ten seconds
                 "requests": [{"id": "row 3, choice 0", "state": "running" | "waiting", "doing": "reading" | "writing",
                               "prompt_tokens": 512, "cached_tokens": 496 | null, "generated_tokens": 17, "choices": 1,
                               "age_s": 0.8, "adapter": null}]}]}                                           64 at most
    `blocks.map` has one digit a block: 0 free, 1 cached (free, and findable), 2 used.

GET /v1/danlu/runs                                                         needs `danlu serve --runs DIR`, else an empty list
    {"object": "list", "data": [{"object": "danlu.run", "name": "experiments/first", "state": "running" | "stopped" | "finished",
      "updated": 1764000000.0, "step": 120, "steps": 400, "tokens": 983040, "loss": 3.21, "heldout_loss": 3.3,
      "heldout_bits_per_byte": 1.31, "tokens_per_s": 5210.0, "seconds": 181.0}]}                  newest first
    `name` is the output folder below DIR (the work folder is name.run); it may hold slashes.

GET /v1/danlu/runs/{name}?points=400                                       name as it is, slashes included
    the fields of the list, and
    {"curve": {"step": [...], "tokens": [...], "loss": [...], "grad_norm": [...], "lr": [...], "tokens_per_s": [...],
               "seconds": [...]},                                          columns of equal length, thinned to `points`
     "heldout": {"step": [...], "tokens": [...], "loss": [...], "bits_per_byte": [...]},
     "samples": [{"step": 100, "time": 1764000000.0, "prompt": "...", "text": "..."}],            the last 64
     "guard": [{"step": 80, "time": ..., "action": "skip", ...}], "checkpoints": [{"step": 100, "time": ...}],
     "notes": [{"time": ..., "kind": "say" | "warn", "text": "..."}],      the last 200
     "plan": {...} | null, "settings": {...} | null, "ledger": {...} | null, "metrics": {...} | null}
    ledger and metrics are those of the finished artefact's lineage record.

GET /v1/danlu/artefacts                                                    one for each served model
    {"object": "list", "data": [{"object": "danlu.artefact", "model": "tiny", "name": "tiny", "id": "0123..." | null,
      "kind": "model", "stage": "pretrain", "created": "2026-11-29T21:00:00+00:00", "licences": ["CC0-1.0"], "sources": [],
      "metrics": {...}, "ledger": {...}, "settings": {...}, "wall_s": 12.0, "card": "# Markdown of README.md" | null,
      "files": [{"file": "model.safetensors", "bytes": 536000}],
      "tree": [{"depth": 0, "role": null, "id": "...", "name": "tiny", "kind": "model" | null, "stage": "pretrain" | null,
                "created": "..." | null, "bytes": null, "files": null}]}]}
    A model folder of other tools has no record: its fields but model, name and card are null, its tree is empty.

For the chat page: GET /v1/models lists what can be asked (`danlu`: {"kind", "context", "chat", "parent"} beside OpenAI's fields);
POST /v1/chat/completions with logprobs and top_logprobs gives the token view its alternatives; `"danlu": {"applied": true}` in
the request adds a `danlu` block {"applied": {...}} to the answer (in a stream: to the chunk with the usage, or the last one).
"""

import time
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from danlu.core import lineage
from danlu.core.lineage import Lineage
from danlu.core.machine import version
from danlu.server import runs
from danlu.server.errors import ApiError
from danlu.server.models import Served
from danlu.server.service import Service
from danlu.server.strict import Json, StrictRoute, service_of

router = APIRouter(route_class=StrictRoute, prefix="/v1/danlu", tags=["studio"])
_MOST_CARD = 65536


@router.get("/engine")
async def engine(request: Request) -> Response:
    """What every model is doing now."""
    service = service_of(request)
    now = time.time()
    return Json({"object": "danlu.engine", "time": round(now, 3), "uptime_s": round(now - service.started, 3),
                 "version": version("danlu") or "unknown", "draining": service.draining,
                 "models": [live(service, one) for one in service.models.all]})  # fmt: skip


def live(service: Service, one: Served) -> dict[str, Any]:
    """One model."""
    told: dict[str, Any] = {
        "id": one.id, "kind": one.kind, "state": one.state(service.stall_s), "context": one.context if one.opened else None,
        "kernel": one.kernel, "fingerprint": one.fingerprint or None, "adapters": list(one.adapters),
        "chat": one.template is not None, "running": 0, "waiting": 0, "rows": 0, "steps": 0, "preemptions": 0, "blocks": None,
        "prefix": {"queried_tokens": 0, "hit_tokens": 0}, "tokens": {"prompt": 0, "generated": 0},
        "rates": {"prompt_tokens_per_s": 0.0, "generated_tokens_per_s": 0.0}, "requests": [],
    }  # fmt: skip
    if one.engine is None:
        return told
    now, pool = one.engine.status(), one.engine.pool
    prompt_rate, generated_rate = service.rates[one.id].note(now.prompt_tokens, now.generated_tokens)
    if pool is not None:
        marks = pool.marks()
        told["blocks"] = {"total": pool.blocks, "used": marks.count("2"), "cached": marks.count("1"), "free": marks.count("0"),
                          "tokens": pool.block_tokens, "map": marks}  # fmt: skip
    return told | {
        "running": now.running, "waiting": now.waiting, "rows": one.engine.limits.rows, "steps": now.steps,
        "preemptions": now.preemptions, "prefix": {"queried_tokens": now.queried_tokens, "hit_tokens": now.found_tokens},
        "tokens": {"prompt": now.prompt_tokens, "generated": now.generated_tokens},
        "rates": {"prompt_tokens_per_s": round(prompt_rate, 2), "generated_tokens_per_s": round(generated_rate, 2)},
        "requests": [_row(row) for row in now.requests],
    }  # fmt: skip


def _row(row: dict[str, Any]) -> dict[str, Any]:
    name = f"row {row['row']}" if row["row"] >= 0 else "waiting"
    return {"id": f"{name}, choice {row['choice']}", "state": "waiting" if row["state"] == "waiting" else "running",
            "doing": row["state"], "prompt_tokens": row["prompt_tokens"], "cached_tokens": row.get("cached"),
            "generated_tokens": row["tokens"], "choices": 1, "age_s": row["age_s"], "adapter": row.get("adapter")}  # fmt: skip


@router.get("/runs")
async def list_runs(request: Request) -> Response:
    """Run folders below --runs, the newest first."""
    root = service_of(request).runs
    found = await run_in_threadpool(runs.listed, root) if root else []
    return Json({"object": "list", "data": found})


@router.get("/runs/{name:path}")
async def retrieve_run(name: str, request: Request, points: int = Query(400, ge=2, le=5000)) -> Response:
    """One run: curves, samples, what the guard did, and the ledger once it has finished."""
    root = service_of(request).runs
    place = runs.confined(root, name) if root else None
    if root is None or place is None:
        raise ApiError(404, "There is no such run below the folder that --runs names.", param="name", code="run_not_found")
    return Json(await run_in_threadpool(runs.whole, root, place, points))


@router.get("/artefacts")
async def list_artefacts(request: Request) -> Response:
    """What is known of each served model: its card, and what it was made from."""
    found = [await run_in_threadpool(artefact, one) for one in service_of(request).models.all]
    return Json({"object": "list", "data": found})


def artefact(one: Served) -> dict[str, Any]:
    """One model's record, card and ancestors."""
    card = one.path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace")[:_MOST_CARD] if card.is_file() else None
    record = lineage.read(one.path) if (one.path / lineage.NAME).is_file() else None
    kept = ("id", "kind", "stage", "created", "licences", "sources", "metrics", "ledger", "settings", "wall_s")
    told = record.model_dump(mode="json") if record else {}
    return {"object": "danlu.artefact", "model": one.id, "name": one.path.resolve().name, "card": text,
            **{name: runs.nameless(told.get(name)) for name in kept}, "files": _files(record),
            "tree": list(_tree(one)) if record else []}  # fmt: skip


def _files(record: Lineage | None) -> list[dict[str, Any]]:
    return [{"file": output.file, "bytes": output.bytes} for output in record.outputs] if record else []


def _tree(one: Served) -> Any:
    for depth, source, record in lineage.trace(one.path):
        yield _ancestor(depth, source, record, one)


def _ancestor(depth: int, source: Any, record: Lineage | None, one: Served) -> dict[str, Any]:
    name = runs.last_part(source.path) if source else one.path.resolve().name
    return {"depth": depth, "role": source.role if source else None, "id": source.id if source else record.id if record else None,
            "name": name, "kind": record.kind if record else None, "stage": record.stage if record else None,
            "created": record.created if record else None, "bytes": source.bytes if source else None,
            "files": source.files if source else None}  # fmt: skip
