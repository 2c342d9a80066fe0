"""Near copies by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3).

A document is the set of its shingles, n words in a row; a Han or kana character is a word, so Chinese needs no word splitter.
Documents whose signatures agree in all rows of any band belong together: with b bands of r rows that happens at Jaccard
similarity s with probability 1 - (1 - s^r)^b; 14 bands of 8 rows, FineWeb's choice, turn at about 0.72.
"""

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.seeds import derive
from danlu.core.settings import Named
from danlu.data.dedup import DEDUPS
from danlu.data.dedup.base import Dedup
from danlu.data.letters import Array, mix
from danlu.data.texts import Texts

_BLOCK = 1 << 16  # shingles hashed at a time: they and the scratch space stay in the second-level cache


@DEDUPS.register
class MinHash(Dedup):
    """Signatures of bands x rows 32-bit minima."""

    class Config(Named):
        name: Literal["minhash"] = "minhash"
        bands: int = Field(14, ge=1, le=256)
        """Bands of the signature; more find less similar pairs."""
        rows: int = Field(8, ge=1, le=64)
        """Rows of a band; more ask for more similar pairs."""
        shingle: int = Field(5, ge=1, le=64)
        """Words in a shingle."""

    def keys(self, texts: Texts) -> dict[str, Array]:
        shingles, offsets = texts.shingles(self.config.shingle)
        bands = self.bands(signatures(shingles, offsets, self.config.bands * self.config.rows))
        bands[np.diff(offsets) == 0] = 0
        return {name: np.ascontiguousarray(bands[:, band]) for band, name in enumerate(self.columns())}

    def columns(self) -> list[str]:
        return [f"minhash-{band:02d}" for band in range(self.config.bands)]

    def bands(self, signature: Array) -> Array:
        """(D, bands x rows) uint32 to (D, bands) uint64 keys, none of them 0."""
        rows = signature.reshape(len(signature), self.config.bands, self.config.rows).astype(np.uint64)
        key = np.zeros(rows.shape[:2], np.uint64)
        for row in range(self.config.rows):
            key = mix(key + rows[:, :, row] + np.uint64(1))
        return key | np.uint64(1)

    def similarity(self, shared: int) -> float:
        """The similarity at which so many shared bands are to be expected."""
        return float((shared / self.config.bands) ** (1 / self.config.rows))


def signatures(shingles: Array, offsets: Array, count: int) -> Array:
    """Minima of `count` hash functions over each document's shingles.

    shingles: uint64, well mixed; offsets: (D + 1,). Returns (D, count) uint32; all ones where a document has no shingle.
    """
    documents = len(offsets) - 1
    minima = np.full((count, documents), 0xFFFFFFFF, np.uint32)
    full = np.flatnonzero(np.diff(offsets))
    if not len(full):
        return minima.T
    short = (shingles >> np.uint64(32)).astype(np.uint32)
    factors, shifts = _functions(count)
    for begin in range(0, len(short), _BLOCK):
        block = short[begin : begin + _BLOCK]
        here = full[(offsets[full] < begin + len(block)) & (offsets[full + 1] > begin)]
        starts = np.maximum(offsets[here] - begin, 0)
        scratch = np.empty_like(block)
        for place in range(count):
            np.multiply(block, factors[place], out=scratch)
            scratch += shifts[place]
            lowest = np.minimum.reduceat(scratch, starts)
            minima[place, here] = np.minimum(minima[place, here], lowest)
    return minima.T


def signatures_plain(shingles: Array, offsets: Array, count: int) -> Array:
    """The definition: for every document and hash function, the smallest value."""
    factors, shifts = _functions(count)
    found = []
    for start, end in pairwise(offsets):
        values = [int(shingle) >> 32 for shingle in shingles[start:end]]
        found.append([
            min(((value * int(factor) + int(shift)) & 0xFFFFFFFF for value in values), default=0xFFFFFFFF)
            for factor, shift in zip(factors, shifts, strict=True)
        ])  # fmt: skip
    return np.array(found, np.uint32).reshape(len(offsets) - 1, count)


def _functions(count: int) -> tuple[Array, Array]:
    """x -> a x + c modulo 2^32 with odd a: bijections of the 32-bit numbers."""
    generator = np.random.default_rng(derive(0, "minhash"))
    factors = generator.integers(0, 1 << 32, count, dtype=np.uint32) | np.uint32(1)
    return factors, generator.integers(0, 1 << 32, count, dtype=np.uint32)
