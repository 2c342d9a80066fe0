"""Ids and seeds: unlike all others and no secrets, so one drawn secret feeds them all (one of the system's takes up to 1 ms)."""

import random
import secrets

_SOURCE = random.Random(secrets.randbits(256))  # noqa: S311  # nothing that is drawn has to stay unguessed


def fresh_id(prefix: str) -> str:
    """A new id: 24 hex digits behind a prefix."""
    return f"{prefix}{_SOURCE.getrandbits(96):024x}"


def fresh_seed() -> int:
    """A seed for a request that has none."""
    return _SOURCE.getrandbits(63)


def filler(size: int) -> str:
    """A text of so many characters that means nothing."""
    return f"{_SOURCE.getrandbits(4 * size):0{size}x}" if size else ""
