"""Serve models over HTTP: OpenAI's API, Anthropic's messages, metrics, and the studio in the browser."""

import os
import socket
from pathlib import Path
from typing import Any

from pydantic import Field

from danlu.core import log
from danlu.core.errors import BadSettings, MissingExtra
from danlu.core.settings import Settings
from danlu.stages import STAGES


class Serve(Settings):
    """Serves this machine only unless --host says otherwise, and then asks for a key. Ctrl-C, or SIGTERM, lets answers under way
    finish within --drain_s. Prompts and answers are never written to the log."""

    positional = ("models",)

    models: list[str] = Field(min_length=1)
    """Folders of models: FOLDER, or NAME=FOLDER to be asked for by another name. The first is the one that /tokenize and the
    studio take when nobody says."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine's own needs a key, or --insecure."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one and says which."""
    api_key: str | None = None
    """Key that clients must send. Other users of this machine can see it among the processes: the environment's DANLU_API_KEY
    and --api_key_file are better places."""
    api_key_file: Path | None = None
    """File with keys, one a line; # begins a comment. Each key has its own share of the machine and its own cache."""
    insecure: bool = False
    """Let everybody in who reaches the address."""
    cors: list[str] = Field([])
    """Origins (https://example.org) whose pages may ask from browsers; none by default."""
    allow_host: list[str] = Field([])
    """Further names under which the server may be asked (header Host), beside localhost and --host."""
    weights: str = Field("auto", pattern="^(auto|fp32|bf16|int8|int4)$")
    """How weights are held and multiplied: auto, fp32, bf16, int8 or int4 (smaller and faster, and answers change a little)."""
    group: int = Field(32, ge=16)
    """Weights that share a scale, for int4: 32, 64 or 128."""
    cache: str = Field("fp32", pattern="^(fp32|bf16|int8)$")
    """How the memory of what was read is held: fp32, bf16 or int8."""
    cache_tokens: int | None = Field(None, ge=64)
    """Tokens that all requests together may have in memory; left out: what a quarter of the free memory holds."""
    rows: int = Field(16, ge=1, le=1024)
    """Answers that are written at the same time."""
    batch_tokens: int = Field(256, ge=1)
    """Tokens of one step at most."""
    waiting: int = Field(256, ge=0)
    """Answers that may wait for a row; more are refused with 503."""
    runner: str = Field("auto", pattern="^(auto|native|packed|recurrent|solo)$")
    """What computes; auto takes the first of native, packed, recurrent and solo that fits the model."""
    guess: str = Field("auto", pattern="^(auto|off)$")
    """Guess tokens ahead by what followed the same words before; answers stay the same token for token. auto: where it pays."""
    draft: Path | None = None
    """Folder of a smaller model with the same tokenizer that guesses ahead for the first model."""
    guesses: int = Field(4, ge=1, le=16)
    """Tokens that are guessed ahead at most."""
    adapter: list[str] = Field([])
    """Low-rank adapters of the first model, NAME=FOLDER; each is asked for as a model of that name."""
    chat_template: Path | None = None
    """Chat template for the first model in place of its own: a file in the template language of Hugging Face."""
    guard: Path | None = None
    """What /v1/moderations asks: a YAML file of rules (words, regular expressions), or the folder of a classifier."""
    runs: Path | None = None
    """Folder whose training runs the studio shows while they go."""
    feedback: Path | None = None
    """Folder of answers that people judge in the studio: OUT.run of `danlu feedback ... -o OUT --prepare`."""
    traces: str | None = None
    """Address of an OpenTelemetry collector (http://127.0.0.1:4318) that is told route, status and time of each request, and no
    text; none by default. Needs the extra otel."""
    studio: bool = True
    """Serve the web page at /."""
    max_tokens: int = Field(4096, ge=1)
    """Most tokens of an answer whose request does not say."""
    body_bytes: int = Field(8 << 20, ge=1024)
    """Bytes of a request at most."""
    connections: int = Field(512, ge=1)
    """Connections at the same time."""
    request_s: float = Field(600, gt=0)
    """Seconds after which an answer that is not finished is given up."""
    arrive_s: float = Field(20, gt=0)
    """Seconds within which the headers of a request, and then its body, must arrive."""
    stall_s: float = Field(60, gt=0)
    """An engine whose last step ended longer ago, while there is work, makes /health say 503."""
    drain_s: float = Field(30, ge=0)
    """Seconds that answers under way have when the server is asked to stop."""


@STAGES.register
def serve(config: Serve) -> None:
    """Listen until told to stop."""
    try:
        import uvicorn  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("serve", "the server") from None
    from danlu.server.auth import Keys, check_bind

    keys = Keys.read(config.api_key, config.api_key_file)
    check_bind(config.host, keys, config.insecure)
    if config.runs is not None and not config.runs.is_dir():
        raise BadSettings(f"--runs {config.runs} is no folder. Give one in which models are trained.")
    server, service = prepared(config, keys)
    listener = listen(config.host, config.port)
    port = listener.getsockname()[1]
    say_where(config, port, bool(keys))
    try:
        service.open(serving_of(config), ready=lambda: log.say("ready"), failed=server.leave)
        server.run(sockets=[listener])
    finally:
        service.close()
        listener.close()
    if service.failed is not None:
        raise service.failed


def prepared(config: Serve, keys: Any) -> tuple[Any, Any]:
    """The server, not started, and the service behind it."""
    import uvicorn

    from danlu.apps.feedback.collection import Collection
    from danlu.server.app import Access, create_app
    from danlu.server.auth import is_loopback
    from danlu.server.feedback_api import Desk
    from danlu.server.limits import HEADER_BYTES, Limits, protocol
    from danlu.server.models import parse_models
    from danlu.server.moderations import open_guard
    from danlu.server.service import Service
    from danlu.server.traces import tracer_to

    limits = Limits(
        **{name: getattr(config, name) for name in ("max_tokens", "body_bytes", "connections", "request_s", "arrive_s")}
    )
    models = parse_models(config.models, config.adapter, config.chat_template)
    guard = open_guard(config.guard, models.lock) if config.guard is not None else None
    desk = Desk(Collection(config.feedback)) if config.feedback is not None else None
    service = Service(models, limits, config.runs, guard, desk, config.stall_s)
    named = ["127.0.0.1", "localhost", "::1", config.host.strip("[]"), *config.allow_host]
    hosts = named if is_loopback(config.host) or config.allow_host else None
    tracer = tracer_to(config.traces) if config.traces else None
    app = create_app(service, Access(keys, hosts, config.cors), page=config.studio, tracer=tracer)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            """Stop in peace; a second signal stops at once. (uvicorn's own would end the process by the signal once more.)"""
            self.force_exit = self.should_exit
            self.should_exit = True
            service.drain(config.drain_s)

        def leave(self) -> None:
            self.should_exit = True

    settings = uvicorn.Config(
        app, http=protocol(limits), ws="none", lifespan="on", log_level="error", access_log=False, server_header=False,
        proxy_headers=False, h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=30, timeout_graceful_shutdown=int(config.drain_s) + 5, log_config=None,
    )  # fmt: skip
    return Server(settings), service


def serving_of(config: Serve) -> Any:
    """The settings of the engines."""
    from danlu.core.settings import load
    from danlu.engine.opening import Serving

    return load(Serving, {name: getattr(config, name) for name in Serving.model_fields if name in Serve.model_fields}, "serve")


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; uvicorn listens on it. Raises BadSettings where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise BadSettings(f"cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}. Choose another "
                          f"--port (0: any free one) or --host.") from None  # fmt: skip
    listener.set_inheritable(True)
    return listener


def say_where(config: Serve, port: int, keyed: bool) -> None:
    """Tell where the server listens and how to ask it."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{'127.0.0.1' if config.host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104  # compared, not bound
    name = config.models[0].partition("=")[0] if "=" in config.models[0] else Path(config.models[0]).resolve().name
    key = " -H 'Authorization: Bearer '\"$DANLU_API_KEY\"" if keyed else ""
    body = f'{{"model": "{name}", "prompt": "Once upon a time", "max_tokens": 32}}'
    page = f"; the studio is {url}/" if config.studio else ""
    log.say(f"listening on {url} (OpenAI's API under {url}/v1{page})")
    log.say(f"ask it:  curl {url}/v1/completions{key} -H 'Content-Type: application/json' -d '{body}'")
    if config.insecure and not keyed:
        log.warn("no key is set: everybody who reaches this address may use the server")
