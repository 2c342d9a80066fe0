"""The models of one server: each opened once, known by its id, with its adapters as further names.

They are opened on a thread of their own while the server already answers /health, one after another, and share the machine by
one lock: two models never compute at the same time.
"""

import functools
import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from danlu.core import lineage, log
from danlu.core.errors import BadInput, BadSettings, NotAnArtifact
from danlu.engine.engine import Engine
from danlu.engine.model import Model, load
from danlu.engine.opening import Serving, open_engine
from danlu.models.base import MaskedLM, Seq2SeqLM
from danlu.server.errors import invalid, no_model, overloaded
from danlu.server.runs import nameless
from danlu.tokenizer.chat import Template, turn_ends, variables_read
from danlu.tokenizer.tokenizer import Tokenizer

Kind = Literal["causal", "seq2seq", "masked", "embed", "classify", "regress", "tag", "extract"]
State = Literal["loading", "ready", "stalled", "dead"]
_SAMPLES, _SAMPLE_BYTES = 64, 65536


@dataclass(eq=False)
class Served:
    """One model. Until it is opened, only its id and folder are known."""

    id: str
    path: Path
    adapters: dict[str, Path] = field(default_factory=dict)
    given_template: str | None = None
    """From --chat_template; goes before the folder's."""
    created: int = field(default_factory=lambda: int(time.time()))
    kind: Kind = "causal"
    model: Any = None
    """Model or HeadedModel."""
    engine: Engine | None = None
    template: Template | None = None
    template_fault: str | None = None
    """Why the chat template cannot be used: it does not come to an end."""
    turn_ends: frozenset[int] = frozenset()
    """Tokens by which the chat template closes what the assistant says."""
    fingerprint: str = ""
    parameters: int | None = None
    receipt: dict[str, Any] | None = None
    """What making it smaller has cost, as `danlu compress` wrote it beside the weights."""
    opened: bool = False

    @property
    def tokenizer(self) -> Tokenizer:
        found: Tokenizer = self.model.tokenizer
        return found

    @property
    def context(self) -> int:
        return int(self.model.context)

    @property
    def kernel(self) -> str | None:
        return self.engine.runner.kernel if self.engine else None

    @property
    def writes(self) -> bool:
        return self.kind in ("causal", "seq2seq")

    @property
    def template_id(self) -> str | None:
        """A hash of the chat template."""
        return None if self.template is None else hashlib.sha256(json.dumps(self.template).encode()).hexdigest()[:12]

    @functools.cached_property
    def longest_token(self) -> int:
        """Bytes of the longest token: a text of more bytes than this times the context cannot fit."""
        return max((len(self.tokenizer.token_bytes(token)) for token in range(self.tokenizer.vocab_size)), default=1) or 1

    def state(self, stall_s: float) -> State:
        """How it is."""
        if not self.opened:
            return "loading"
        if self.engine is None:
            return "ready"
        status = self.engine.status()
        return "dead" if not status.alive else "stalled" if status.stalled_s > stall_s else "ready"

    def open(self, serving: Serving, lock: Any) -> None:
        """Read the weights and start the engine."""
        self.model = load(self.path)
        parameters = getattr(self.model.model, "parameters", None)
        self.parameters = sum(one.numel() for one in parameters()) if parameters else None
        self.receipt = read_receipt(self.path)
        if isinstance(self.model, Model):
            kind = self.model.model
            self.kind = "masked" if isinstance(kind, MaskedLM) else "seq2seq" if isinstance(kind, Seq2SeqLM) else "causal"
        else:
            self.kind = self.model.task
        if self.writes:
            self.engine = open_engine(self.model, serving, self.adapters, lock, release=True).start()
        elif self.adapters:
            raise BadSettings(f"{self.path} writes no text, so it takes no adapters.")
        if self.kind == "causal":
            self.template = self.given_template or self.tokenizer.chat_template
            self._try_template()
        self.fingerprint = fingerprint(self)
        assert self.longest_token  # known before the first request asks
        self.opened = True

    def _try_template(self) -> None:
        """Render once: which token ends a turn, and whether the template comes to an end at all."""
        if self.template is None:
            return
        try:
            self.turn_ends = turn_ends(self.tokenizer, self.template)
        except BadInput as error:
            if "was stopped" in str(error):
                self.template_fault = "The chat template of this model ran too long when it was tried, and is not used."
                log.warn(f"{self.path}: {error}")


class Models:
    """All of them."""

    def __init__(self, served: Iterable[Served]):
        self.all = list(served)
        names = [name for one in self.all for name in (one.id, *one.adapters)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise BadSettings(f"two models or adapters are called {', '.join(twice)}. Give them names: NAME=FOLDER.")
        if not self.all:
            raise BadSettings("give at least one model folder.")
        self.lock = threading.Lock()
        """Held by whoever computes."""

    def open(self, serving: Serving) -> None:
        """Open all, in order. Raises what opening raises."""
        threading.Thread(target=variables_read, args=("{{ messages }}",), daemon=True).start()  # the sandbox begins meanwhile
        for one in self.all:
            one.open(serving, self.lock)

    def close(self, drain_s: float = 0.0) -> None:
        """Let engines finish within `drain_s` seconds, all at the same time."""
        threads = [threading.Thread(target=one.engine.close, args=(drain_s,)) for one in self.all if one.engine]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def names(self) -> Iterator[tuple[str, Served, str | None]]:
        """Every name that can be asked for, with its model and adapter."""
        for one in self.all:
            yield one.id, one, None
            for adapter in one.adapters:
                yield adapter, one, adapter

    def find(self, name: str | None, adapter: str | None = None) -> tuple[Served, str | None]:
        """The model of a name (None: the first), and the adapter. Raises ApiError: 404, or 503 while it is being opened."""
        known = {found: (one, part) for found, one, part in self.names()}
        known |= {f"{one.id}:{part}": (one, part) for _, one, part in self.names() if part}
        if name is not None and name not in known:
            raise no_model(name, [found for found, _, _ in self.names()])
        one, part = known[name] if name is not None else (self.all[0], None)
        if adapter is not None:
            if adapter not in one.adapters or part not in (None, adapter):
                raise invalid("adapter", f"The model '{one.id}' has no adapter of that name"
                                         f"{' beside the one that was asked for as model' if part else ''}.")  # fmt: skip
            part = adapter
        if not one.opened:
            raise overloaded(f"The model '{one.id}' is still being opened.", 2)
        return one, part


def parse_models(words: Sequence[str], adapters: Sequence[str] = (), template: Path | None = None) -> Models:
    """Models as the command line names them: FOLDER or NAME=FOLDER; adapters, always NAME=FOLDER, belong to the first model."""
    found = []
    for word in words:
        name, given, folder = word.partition("=")
        path = Path(folder if given and name else word)
        if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            there = "holds no config.json" if path.exists() else "does not exist"
            raise NotAnArtifact(f"{path} {there}, so it is no model folder. Give the --out of `danlu pretrain`, or a Hugging "
                                f"Face model; another name for it is written NAME=FOLDER.")  # fmt: skip
        found.append(Served(name if given and name else path.resolve().name, path))
    for word in adapters:
        name, given, folder = word.partition("=")
        if not (given and name and folder) or not Path(folder).is_dir():
            raise BadSettings(f"--adapter {word}: write NAME=FOLDER, with a folder that exists.")
        if found:
            found[0].adapters[name] = Path(folder)
    if template is not None and found:
        try:
            found[0].given_template = template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise BadSettings(f"--chat_template {template} cannot be read. Give a text file in the template language of "
                              f"Hugging Face (jinja2).") from None  # fmt: skip
    return Models(found)


def fingerprint(one: Served) -> str:
    """Names what answers depend on beside the request: weights, tokenizer, template, code and kernels.

    A folder with a lineage record gives its id for the weights; of others, sizes and samples spread over the files are hashed.
    """
    digest = hashlib.sha256()
    for part in (_weights_id(one.path), one.tokenizer.id, json.dumps(one.template), one.kernel or "", *_adapters(one)):
        digest.update(part.encode() + b"\0")
    digest.update(json.dumps(lineage.code_version(), sort_keys=True).encode())
    return f"dl_{digest.hexdigest()[:16]}"


def _adapters(one: Served) -> Iterator[str]:
    for name, path in sorted(one.adapters.items()):
        yield f"{name}={_weights_id(path)}"


def _weights_id(path: Path) -> str:
    if (path / lineage.NAME).is_file():
        return lineage.read(path).id
    digest = hashlib.sha256()
    for file in sorted([*path.glob("*.json"), *path.glob("*.safetensors")]):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\n".encode())
        with open(file, "rb") as stream:
            for number in range(_SAMPLES):
                stream.seek(size * number // _SAMPLES)
                digest.update(stream.read(_SAMPLE_BYTES))
    return f"sampled:{digest.hexdigest()}"


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """The receipt in a model's folder, without places of this machine."""
    place = folder / "receipt.json"
    if not place.is_file():
        return None
    try:
        tree = json.loads(place.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return nameless(tree) if isinstance(tree, dict) else None


def describe(name: str, one: Served, adapter: str | None, whole: bool = False) -> Mapping[str, Any]:
    """A model as /v1/models tells it; whole: with its receipt, where it has one."""
    opened = one.opened
    return {
        "id": name, "object": "model", "created": one.created, "owned_by": "danlu",
        "danlu": {
            "kind": one.kind if opened else None, "context": one.context if opened else None,
            "chat": one.template is not None, "parent": one.id if adapter else None, "ready": opened,
            "fingerprint": one.fingerprint or None, "kernel": one.kernel, "parameters": one.parameters,
            **({"receipt": one.receipt} if whole else {}),
        },
    }  # fmt: skip
