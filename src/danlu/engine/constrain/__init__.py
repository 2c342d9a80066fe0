"""Forms that an answer can be held to: one file a form, each turning what a request asks into one grammar language.

    compile(kind, spec, tokenizer, ends, limits=Limits()) -> Held        (compile.py; call it off the engine's thread)
        kind    a name of this shelf: json_schema, json_object, regex, choices, grammar
        spec    what the form takes: a schema (dict), nothing (None), an expression, a list of texts, a Lark grammar
        ends    ids that end an answer (Model.ends); they are allowed where the form is complete
        raises  BadForm (a BadInput) for what is malformed, not supported (naming keyword and place), too large or too slow,
                MissingExtra without llguidance

A Held is a Constraint (engine/constraint.py): mask(), accept(token), clone().
"""

from typing import Any, Protocol

from pydantic import Field

from danlu.core.errors import BadInput
from danlu.core.registry import Registry
from danlu.core.settings import Settings

FORMS: Registry[Any] = Registry("form", __name__)


class BadForm(BadInput):
    """A form that cannot be kept: malformed, not supported, too large, or taking too long to prepare."""


class Limits(Settings):
    """What one request's form may cost; the defaults are far above what people write by hand."""

    spec_bytes: int = Field(65_536, ge=1)
    """Size of a schema, grammar or list of choices as JSON."""
    depth: int = Field(64, ge=1)
    """Nesting of a schema."""
    values: int = Field(1_000, ge=1)
    """Values of all enumerations of a schema together, or choices."""
    properties: int = Field(1_000, ge=1)
    """Properties of all objects of a schema together."""
    items: int = Field(10_000, ge=0)
    """Largest minItems and maxItems."""
    length: int = Field(100_000, ge=0)
    """Largest minLength and maxLength."""
    pattern_characters: int = Field(2_048, ge=1)
    """Length of a regular expression."""
    compile_s: float = Field(5.0, gt=0)
    """Seconds that preparing may take."""


class Form(Protocol):
    """What stands on the shelf."""

    def __call__(self, spec: Any, limits: Limits) -> str:
        """The form as a grammar of llguidance. Raises BadForm."""
        ...


def brief(value: Any) -> str:
    """A value in an error message, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
