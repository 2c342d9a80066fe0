"""Where every document, character and byte of the raw text went, by source; the columns add up exactly.

read + split = quarantined + edited away + dropped (by rule) + exact copies + near copies + train + validation.
A part of a long document counts one more document in `split`, and no character.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

UNITS = ("documents", "characters", "bytes")
IN = ("read", "split")


@dataclass
class Ledger:
    """Rows by source: `{source: {row: [documents, characters, bytes]}}`."""

    sources: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def add(self, source: str, row: str, documents: int = 0, characters: int = 0, bytes: int = 0) -> None:
        """Book an amount."""
        cell = self.sources.setdefault(source, {}).setdefault(row, [0, 0, 0])
        for place, amount in enumerate((documents, characters, bytes)):
            cell[place] += int(amount)

    def merge(self, other: Mapping[str, Mapping[str, Iterable[int]]]) -> None:
        """Book everything of another ledger's rows."""
        for source, rows in other.items():
            for row, amounts in rows.items():
                self.add(source, row, *amounts)

    def total(self) -> dict[str, list[int]]:
        """All sources together."""
        whole = Ledger()
        for rows in self.sources.values():
            whole.merge({"all": rows})
        return whole.sources.get("all", {})

    def get(self, row: str, source: str | None = None) -> list[int]:
        """One row, of one source or of all."""
        rows = self.total() if source is None else self.sources.get(source, {})
        return rows.get(row, [0, 0, 0])

    def check(self) -> None:
        """Raise AssertionError where what came in is not what went out: our mistake, never the user's."""
        for source, rows in self.sources.items():
            for place, unit in enumerate(UNITS):
                came = sum(amounts[place] for row, amounts in rows.items() if row in IN)
                went = sum(amounts[place] for row, amounts in rows.items() if row not in IN)
                assert came == went, f"ledger of {source}: {came} {unit} came in, {went} went out: {rows}"

    def as_dict(self) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
        """For ledger.json and lineage: `{"sources": {source: {row: {unit: amount}}}, "total": {...}}`."""

        def named(rows: Mapping[str, list[int]]) -> dict[str, dict[str, int]]:
            return {row: dict(zip(UNITS, rows[row], strict=True)) for row in sorted(rows, key=order)}

        return {
            "sources": {source: named(rows) for source, rows in self.sources.items()},
            "total": {"all": named(self.total())},
        }


def order(row: str) -> tuple[int, str]:
    """Sort key that puts the rows in the order of the work."""
    places = ("read", "split", "quarantined", "edited", "dropped", "exact copies", "near copies", "train", "validation")
    return places.index(row.partition(":")[0]), row
