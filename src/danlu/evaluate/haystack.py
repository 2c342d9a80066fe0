"""What haystacks are made of: sentences about nothing in particular, names and passcodes, all words of our own choice."""

import numpy as np
from pydantic import Field, field_validator

from danlu.core.settings import Settings

NAMES = (
    "Amber", "Basil", "Clara", "Dorian", "Edith", "Felix", "Greta", "Hugo", "Iris", "Jonas", "Karin", "Linus", "Mira", "Nadia",
    "Oscar", "Petra", "Quentin", "Rosa", "Simon", "Tilda", "Ursula", "Viktor", "Wanda", "Xenia", "Yusuf", "Zora",
)  # fmt: skip
CODES = (
    "acorn", "anchor", "apple", "arrow", "barrel", "basket", "beacon", "blanket", "bottle", "branch", "bridge", "bucket",
    "candle", "canvas", "carpet", "castle", "cherry", "cinder", "copper", "cotton", "feather", "fiddle", "flint", "garlic",
    "ginger", "hammer", "helmet", "honey", "ivory", "jacket", "kettle", "ladder", "lantern", "lemon", "magnet", "marble",
    "meadow", "mirror", "mustard", "needle", "oyster", "paddle", "parrot", "pebble", "pepper", "pillow", "plum", "pocket",
    "ribbon", "saddle", "saffron", "shovel", "silver", "spindle", "thimble", "timber", "turnip", "velvet", "vinegar", "walnut",
    "whistle", "willow", "window", "zipper",
)  # fmt: skip
_WHO = (
    "The baker", "A sailor", "The old miller", "My neighbour", "A young clerk", "The gardener", "Our teacher", "A tall man",
    "The doctor", "Her brother", "A quiet girl", "The captain", "His aunt", "A merchant", "The night guard", "Some farmer",
)  # fmt: skip
_DOES = (
    "carries", "repairs", "paints", "sells", "borrows", "hides", "washes", "admires", "measures", "forgets", "finds", "draws",
    "counts", "moves", "buys", "keeps",
)  # fmt: skip
_WHAT = (
    "a blue lamp", "the wooden box", "two small chairs", "an empty sack", "the heavy door", "a bundle of letters", "some bread",
    "the red cart", "a broken clock", "three green jars", "the long rope", "a silk coat", "the round table", "an iron pot",
    "a pair of boots", "the last map",
)  # fmt: skip
_WHERE = (
    "near the river", "before sunrise", "behind the church", "every other week", "in the rain", "at the market", "on the hill",
    "without a word", "after supper", "by the north gate", "in the attic", "for an hour", "next to the well", "with great care",
    "in early spring", "under the arches",
)  # fmt: skip


class Needle(Settings):
    """A fact hidden in a long text, at several depths and lengths."""

    lengths: list[int] = Field(default_factory=list)
    """Tokens of the texts, question included; empty: no such test. They may exceed the model's context: that is what shows."""
    depths: list[float] = Field(default=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    """Where the fact stands: 0 at the beginning, 1 right before the question."""
    trials: int = Field(20, ge=1)
    """Texts for each depth and length."""
    distractors: int = Field(3, ge=0, lt=len(NAMES))
    """Passcodes of other names in the same text."""
    fact: str = "The passcode of {name} is {code}."
    """The fact; the question is what stands before {code}."""
    seed: int = 0
    """Seed of names, passcodes and sentences."""

    @field_validator("depths")
    @classmethod
    def _within(cls, depths: list[float]) -> list[float]:
        if not depths or not all(0 <= depth <= 1 for depth in depths):
            raise ValueError("depths lie between 0 and 1")
        return depths

    @field_validator("fact")
    @classmethod
    def _whole(cls, fact: str) -> str:
        if "{name}" not in fact.partition("{code}")[0] or "{code}" not in fact:
            raise ValueError("a fact names {name} and then {code}")
        return fact


def sentence(random: np.random.Generator) -> str:
    """One of 65,536 sentences.

    >>> sentence(np.random.default_rng(0))
    'A merchant finds a broken clock in the rain.'
    """
    return f"{' '.join(words[int(random.integers(len(words)))] for words in (_WHO, _DOES, _WHAT, _WHERE))}."
