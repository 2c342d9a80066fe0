"""Quantities as people write them: times, tokens, FLOPs, bytes."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import core_schema

_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}
_TIME = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_BYTE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_NUMBER = r"([0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)"


@dataclass(frozen=True)
class Budget:
    """How much training to spend: wall seconds, tokens, or floating-point operations.

    >>> Budget.parse("3m"), Budget.parse("400k tokens"), Budget.parse("1e16 flops")
    (Budget(amount=180.0, unit='seconds'), Budget(amount=400000.0, unit='tokens'), Budget(amount=1e+16, unit='flops'))
    """

    amount: float
    unit: Literal["seconds", "tokens", "flops"]

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Raises ValueError saying the accepted forms."""
        found = re.fullmatch(rf"\s*{_NUMBER}\s*([a-z]*)\s*([a-z]*)\s*", str(text).lower())
        if found:
            number, first, second = float(found[1]), found[2], found[3]
            for words, unit in ((("token", "tokens"), "tokens"), (("flop", "flops"), "flops")):
                if first in words and not second:
                    first, second = "", first
                if first.endswith(words) and not second:  # 400ktokens
                    first, second = first.removesuffix("s").removesuffix(words[0]), words[1]
                if second in words and first in _SCALE:
                    return cls._positive(number * _SCALE[first], unit, text)
            if not second and first.removesuffix("s" if len(first) > 1 else "") in _TIME:
                return cls._positive(number * _TIME[first.removesuffix("s" if len(first) > 1 else "")], "seconds", text)
        raise ValueError(f"a budget reads like 90s, 3m, 2h, '400k tokens' or '1e16 flops', all above zero; not {text!r}")

    @classmethod
    def _positive(cls, amount: float, unit: Any, text: str) -> "Budget":
        if not 0 < amount < float("inf"):
            raise ValueError(f"a budget must be above zero, not {text!r}")
        return cls(amount, unit)

    def __str__(self) -> str:
        """A form that parses back to the same budget."""
        return f"{self.amount:.12g}{'s' if self.unit == 'seconds' else ' ' + self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )


@dataclass(frozen=True)
class Bytes:
    """An amount of memory or disk: `512MB`, `1.5GiB`, a plain number of bytes.

    >>> Bytes.parse("1.5 GiB").count, str(Bytes(2_000_000))
    (1610612736, '2 MB')
    """

    count: int

    @classmethod
    def parse(cls, text: Any) -> "Bytes":
        """Raises ValueError saying the accepted forms."""
        found = re.fullmatch(rf"\s*{_NUMBER}\s*([kmgt]i?)?b?\s*", str(text).lower())
        if not found or float(found[1]) <= 0:
            raise ValueError(f"an amount of bytes reads like 512MB, 1.5GiB or 4096; not {text!r}")
        return cls(int(float(found[1]) * _BYTE[found[2] or ""]))

    def __str__(self) -> str:
        return size(self.count)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.count),
        )


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(42), duration(180), duration(9000)
    ('42s', '3m', '2h30m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g}s"
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return "".join(f"{value}{unit}" for value, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if value)


def size(count: float) -> str:
    """Bytes in words, decimal units.

    >>> size(1234), size(5_000_000_000)
    ('1.23 kB', '5 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def count(number: float) -> str:
    """A count in words.

    >>> count(950), count(1_234_567), count(2.5e9)
    ('950', '1.23M', '2.5B')
    """
    for unit in ("", "k", "M", "B"):
        if abs(number) < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"
