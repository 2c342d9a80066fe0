"""A server that speaks OpenAI's protocol, at any URL: Danlu's own, vLLM, llama.cpp, a service.

Texts go over HTTP, several at once. What overload or a broken line spoils is asked again; what the server refuses is not.
Scores come from /v1/completions with echo, which servers support unevenly.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field, field_validator

from danlu.core.errors import BackendFailed
from danlu.core.settings import Named
from danlu.engine.backends import BACKENDS, Answer, Prompt
from danlu.engine.backends.ids import check_pair, pair_ids
from danlu.engine.request import MOST_TOKENS, Sampling
from danlu.tokenizer.tokenizer import Tokenizer

_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
"""Answers after which the same request may succeed."""
_LONGEST_WAIT_S = 30.0
_OWN = ("top_k", "min_p", "typical_p", "repetition_penalty", "min_tokens", "ignore_eos", "logit_bias", "frequency_penalty",
        "presence_penalty", "stop")  # fmt: skip
"""Settings that are sent only where they change anything: not every server knows them."""

T, U = TypeVar("T"), TypeVar("U")


@BACKENDS.register
class OpenAI:
    """See Backend."""

    class Config(Named):
        name: Literal["openai"] = "openai"
        url: str = "http://127.0.0.1:8000/v1"
        """Where the server's /v1 is."""
        model: str | None = None
        """Which of its models; left out, the first that it lists."""
        key: str = "OPENAI_API_KEY"
        """Environment variable that holds the key; none is sent where it is not set."""
        tokenizer: Path | None = None
        """Folder with the model's tokenizer: scores then go by ids, exact in every script; left out, by the server's offsets."""
        timeout_s: float = Field(120.0, gt=0)
        """How long one try may take."""
        retries: int = Field(4, ge=0)
        """How often a request is tried again after overload or a broken line."""
        at_once: int = Field(16, gt=0)
        """Requests on their way at the same time."""

        @field_validator("url")
        @classmethod
        def _http(cls, url: str) -> str:
            if not url.startswith(("http://", "https://")):
                raise ValueError("begins with http:// or https://")
            return url.rstrip("/")

    def __init__(self, config: Config):
        self.config = config
        near = urllib.parse.urlsplit(config.url).hostname in ("127.0.0.1", "::1", "localhost")
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({} if near else None))
        self._pool = ThreadPoolExecutor(config.at_once, thread_name_prefix="danlu-openai")
        self._tokenizer = Tokenizer.open(config.tokenizer) if config.tokenizer else None
        self._model = config.model

    @property
    def model(self) -> str:
        """The model that is asked for."""
        if self._model is None:
            listed = self._ask("/models", None).get("data")
            if not isinstance(listed, list) or not listed:
                raise BackendFailed(f"{self.config.url}/models lists no model. Say which one with --model.")
            self._model = str(listed[0]["id"])
        return self._model

    def write(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        """See Backend.write. Without max_tokens it asks for 256."""
        fields = self._fields(sampling)
        return self._each(lambda prompt: self._answer(prompt, fields), prompts)

    def score(self, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """See Backend.score. Raises BackendFailed for a server that does not echo a prompt with log-probabilities."""
        return self._each(lambda pair: self._scores(*pair), texts)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See Backend.embed."""
        parts = [list(texts[at : at + 64]) for at in range(0, len(texts), 64)]
        vectors = [vector for part in self._each(self._vectors, parts) for vector in part]
        found_ND = np.array(vectors, np.float32)
        return found_ND / np.maximum(np.linalg.norm(found_ND, axis=1, keepdims=True), 1e-12)

    def close(self) -> None:
        """See Backend.close."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- requests

    def _each(self, ask: Callable[[T], U], asked: Sequence[T]) -> list[U]:
        self.model  # noqa: B018  # asked for once, before the threads ask
        return list(self._pool.map(ask, asked))

    def _fields(self, sampling: Sampling) -> dict[str, Any]:
        plain = Sampling()
        own = {name: getattr(sampling, name) for name in _OWN if getattr(sampling, name) != getattr(plain, name)}
        if "logit_bias" in own:
            own["logit_bias"] = {str(token): value for token, value in own["logit_bias"].items()}
        return {
            "model": self.model, "max_tokens": sampling.max_tokens or MOST_TOKENS, "temperature": sampling.temperature,
            "top_p": sampling.top_p, "seed": sampling.seed, **own,
        }  # fmt: skip

    def _answer(self, prompt: Prompt, fields: Mapping[str, Any]) -> Answer:
        if isinstance(prompt, str):
            found = self._ask("/completions", {**fields, "prompt": prompt})
            text = _at(found, "choices", 0, "text")
        else:
            found = self._ask("/chat/completions", {**fields, "messages": [dict(message) for message in prompt]})
            text = _at(found, "choices", 0, "message", "content") or ""
        ended = _at(found, "choices", 0, "finish_reason")
        read, wrote = (int(_at(found, "usage", field)) for field in ("prompt_tokens", "completion_tokens"))
        return Answer(text, "length" if ended == "length" else "stop", read, wrote)

    def _scores(self, first: str, second: str) -> list[float]:
        check_pair(first, second)
        prompt, begin = (first + second, None) if self._tokenizer is None else pair_ids(self._tokenizer, first, second)
        asked = {"model": self.model, "prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
        found = _at(self._ask("/completions", asked), "choices", 0, "logprobs")
        if not isinstance(found, dict):
            raise BackendFailed(
                f"{self.config.url} echoes no log-probabilities, so it cannot score. Use another backend for that."
            )
        nats, offsets, tokens = (found.get(field) or [] for field in ("token_logprobs", "text_offset", "tokens"))
        if begin is None:
            if len(offsets) > 1 and tokens and not prompt.startswith(tokens[0]) and "\ufffd" not in tokens[0]:
                offsets = [offset - offsets[1] for offset in offsets]  # the token that begins a document is echoed too
            begin = _boundary(offsets, len(nats), first, second)
        elif len(nats) != len(prompt):
            raise BackendFailed(
                f"{self.config.url} scored {len(nats)} tokens of {len(prompt)}: is {self.config.tokenizer} its tokenizer?"
            )
        if begin is None or None in nats[begin:]:
            raise BackendFailed(
                f"{self.config.url} does not say which tokens the second text has (text_offset). Give the folder of its "
                f"tokenizer with --tokenizer."
            )
        return [float(value) for value in nats[begin:]]

    def _vectors(self, texts: list[str]) -> list[list[float]]:
        found = self._ask("/embeddings", {"model": self.model, "input": texts, "encoding_format": "float"})
        rows = sorted(_at(found, "data"), key=lambda row: row["index"])
        if len(rows) != len(texts):
            raise BackendFailed(f"{self.config.url} gave {len(rows)} vectors for {len(texts)} texts.")
        return [row["embedding"] for row in rows]

    def _ask(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """The answer to one request, after as many tries as it takes. Raises BackendFailed."""
        url = self.config.url + path
        for attempt in range(self.config.retries + 1):
            try:
                return self._once(url, body)
            except urllib.error.HTTPError as error:
                said, wait_s = _said(error), _asked_wait(error)
                if error.code not in _AGAIN or attempt == self.config.retries or error.headers.get("x-should-retry") == "false":
                    tried = f" after {attempt + 1} tries" if attempt else ""
                    raise BackendFailed(
                        f"{url} answered {error.code}{tried}: {said} {_advice(error.code, self.config)}"
                    ) from None
            except (OSError, http.client.HTTPException) as error:
                wait_s = None
                if attempt == self.config.retries:
                    why = getattr(error, "reason", None) or error
                    raise BackendFailed(
                        f"{url} cannot be reached after {attempt + 1} tries: {why!r}. Is the server up, and is --url right?"
                    ) from None
            time.sleep(min(0.25 * 2**attempt if wait_s is None else wait_s, _LONGEST_WAIT_S))
        raise AssertionError("every last try returns or raises")

    def _once(self, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if key := os.environ.get(self.config.key):
            headers["authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers)  # noqa: S310  # the scheme is checked in the settings
        with self._opener.open(request, timeout=self.config.timeout_s) as response:
            text = response.read()
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BackendFailed(f"{url} answered no JSON object. Is --url that of an OpenAI-compatible /v1?")
        return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes where the settings say and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _at(found: Any, *path: str | int) -> Any:
    """A value inside an answer. Raises BackendFailed naming what is missing."""
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            raise BackendFailed(f"the server's answer has no {'.'.join(map(str, path))}.") from None
    return found


def _boundary(offsets: Sequence[int], tokens: int, first: str, second: str) -> int | None:
    """The first token that reaches into the second text, by where tokens begin; None where the offsets are no such thing.

    >>> _boundary([0, 2, 3, 5], 4, "abc", "def"), _boundary([0, 2, 4, 5], 4, "abc", "def"), _boundary([], 4, "abc", "def")
    (2, 1, None)
    """
    if not tokens or len(offsets) < tokens or list(offsets) != sorted(offsets):
        return None
    if offsets[0] > 0 or offsets[tokens - 1] >= len(first) + len(second):
        return None
    begins = next((at for at in range(tokens) if offsets[at] >= len(first)), tokens)
    exact = begins < tokens and offsets[begins] == len(first)
    return begins if exact else begins - 1


def _said(error: urllib.error.HTTPError) -> str:
    """What the server says is wrong."""
    try:
        text = error.read(1 << 16).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    try:
        found = json.loads(text)
        told = found.get("error", found.get("detail", found)) if isinstance(found, dict) else found
        text = str(told.get("message", told) if isinstance(told, dict) else told)
    except ValueError:
        pass
    return text.strip()[:500]


def _asked_wait(error: urllib.error.HTTPError) -> float | None:
    try:
        return max(0.0, float(error.headers.get("retry-after", "")))
    except ValueError:
        return None


def _advice(code: int, config: OpenAI.Config) -> str:
    if code in (401, 403):
        return f"Put a key that it knows into the environment variable {config.key}."
    if code == 404:
        return "Is --url right, up to and including /v1, and does it serve --model?"
    if code in _AGAIN:
        return "Ask fewer at once (--at_once), or wait longer (--timeout_s)."
    return "It refuses a setting or a text: leave that out, or use another backend."
