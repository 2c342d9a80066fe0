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
                 "requests": [{"id": "req_...", "state": "running" | "waiting", "prompt_tokens": 512, "cached_tokens": 496,
                               "generated_tokens": 17, "choices": 1, "age_s": 0.8, "adapter": null}]}]}      64 at most

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
      "tree": [{"depth": 0, "role": null, "id": "...", "name": "tiny", "kind": "model" | null, "stage": "pretrain" | null,
                "created": "..." | null, "bytes": null, "files": null}]}]}
    A model folder of other tools has no record: its fields but model, name and card are null, its tree is empty.

For the chat page: GET /v1/models lists what can be asked (`danlu`: {"kind", "context", "chat", "parent"} beside OpenAI's fields);
POST /v1/chat/completions with logprobs and top_logprobs gives the token view its alternatives; `"danlu": {"applied": true}` in
the request adds a `danlu` block {"applied": {...}} to the answer (in a stream: to the chunk with the usage, or the last one).
"""
