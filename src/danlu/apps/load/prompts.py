"""Prompts of about so many tokens, made of words, no two alike; and bodies that are wrong on purpose.

A server that was asked the same twice answers from its cache: a load that repeats its prompts measures that.
"""

import json
import random
import re
from typing import Any

from danlu.apps.load.client import Client

WORDS = re.findall(
    r"\w+",
    """river winter letter garden window silver captain morning story table water people music paper stone bridge forest animal
    answer market number summer village machine doctor island kitchen season teacher question harbour candle mountain journey
    shadow thunder pocket ladder copper basket meadow signal orchard lantern puzzle voyage hammer pepper velvet saddle""",
)
WRONG: tuple[Any, ...] = (
    b"{", b"", b"[]", b"null", b'{"model": 7}', b'\xff\xfe{"a"', {"temperature": 9}, {"max_tokens": -1}, {"top_p": "all"},
    {"n": 0}, {"messages": "hi", "prompt": 7}, {"stop": 7}, {"temprature": 1}, {"logit_bias": {"word": 1}}, {"model": "none"},
)  # fmt: skip
"""Bodies, or changes to a good one, that a server must refuse."""


class Prompts:
    """Makes requests from a seed: the same seed makes the same ones, each different from the others."""

    def __init__(self, model: str, api: str, max_tokens: int, stream: bool, seed: int, extra: dict[str, Any]):
        self.model, self.api, self.max_tokens, self.stream, self.extra = model, api, max_tokens, stream, extra
        self.dice = random.Random(seed)  # noqa: S311  # no secret is made
        self.characters, self.prefix = 0, ""

    @property
    def path(self) -> str:
        """Where requests go."""
        return "/v1/chat/completions" if self.api == "chat" else "/v1/completions"

    def text(self, characters: int) -> str:
        """Words of so many characters, cut where they are long enough."""
        words, size = [], 0
        while size < characters:
            words.append(self.dice.choice(WORDS))
            size += len(words[-1]) + 1
        return " ".join(words)[:characters].rstrip().ljust(characters, ".")

    def body(self, text: str, **changes: Any) -> dict[str, Any]:
        """A request for an answer to a text."""
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": text}]} if self.api == "chat" else {"prompt": text}
        asked |= {"model": self.model, "max_tokens": self.max_tokens, "temperature": 0, "stream": self.stream}
        asked |= {"stream_options": {"include_usage": True}} if self.stream else {}
        return {**asked, **self.extra, **changes}

    def next(self) -> bytes:
        """The next request."""
        return json.dumps(self.body(self.prefix + self.text(self.characters))).encode()

    def wrong(self) -> bytes:
        """A request that must be refused."""
        change = self.dice.choice(WRONG)
        return change if isinstance(change, bytes) else json.dumps(self.body("tea", **change)).encode()

    async def fit(self, client: Client, prompt_tokens: int, shared_tokens: int) -> None:
        """Find how many characters make so many tokens, by asking the server to count; the first shared_tokens are the same in
        all prompts. Raises ConnectionError where it does not answer or count."""
        few, many = 64, 512
        counts = [await self._count(client, self.text(size)) for size in (few, many)]
        per_token = (many - few) / max(counts[1] - counts[0], 1)
        frame = counts[0] - few / per_token
        wanted = max(1, round((prompt_tokens - frame) * per_token))
        found = await self._count(client, self.text(wanted))
        wanted = max(1, wanted + round((prompt_tokens - found) * per_token))
        shared = min(wanted - 1, round(shared_tokens * per_token))
        self.prefix, self.characters = self.text(shared) if shared > 0 else "", wanted - max(shared, 0)

    async def _count(self, client: Client, text: str) -> int:
        body = {**self.body(text, max_tokens=1, stream=False)}
        body.pop("stream_options", None)
        answer = await client.ask(self.path, json.dumps(body).encode())
        if not answer.counted:
            raise ConnectionError(f"a first request for one token: {answer.error or 'the answer has no usage'}")
        return answer.prompt_tokens
