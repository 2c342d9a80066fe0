"""Hugging Face's chat template language: jinja2's immutable sandbox with the few extra words that templates expect.

Renders in this process, without limits of time or memory: sandbox.py adds them, and agrees with this plain twin.
"""

import functools
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST_CHARACTERS = 8 << 20
"""No rendered conversation is longer; what fits a context is far shorter."""
_FILTERS = """abs batch capitalize count d default dictsort e escape first float format groupby indent int items join last length
list lower map max min reject rejectattr replace reverse round safe select selectattr slice sort string sum title tojson trim
unique upper"""
"""All that templates use. What draws by chance (random) or is made for web pages is left out."""


MARKS = ("danlu_generation_begins", "danlu_generation_ends")
"""Variables that stand before and after what a template marks; they are nothing unless somebody gives them."""


class Generation(Extension):
    """`{% generation %} … {% endgeneration %}` marks what the model says, for training; when rendering, its content stands."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Any) -> nodes.Node:
        """The marked part as it stands, in a scope of its own, between the marks where there are any."""
        line = next(parser.stream).lineno
        before, after = (nodes.Output([nodes.Name(name, "load")], lineno=line) for name in MARKS)
        inner = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope([before, *inner, after], lineno=line)


class PlainNamespace(Namespace):
    """`namespace()` whose names cannot reach into Python."""

    def __init__(*args: Any, **attributes: Any) -> None:
        found = dict(*args[1:], **attributes)
        for name in found:
            _check_name(name)
        Namespace.__init__(args[0], found)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def draw(template: str, variables: Mapping[str, Any], most: int = MOST_CHARACTERS) -> str:
    """The text of a template, as jinja2 renders it. Raises jinja2's TemplateError, TypeError and other plain ones."""
    pieces: list[str] = []
    size = 0
    for piece in compiled(template).generate(**variables):
        size += len(piece)
        if size > most:
            raise TemplateError(f"the text grows beyond {most:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def names(template: str) -> list[str]:
    """Variables that a template reads and never sets itself."""
    tree = environment().parse(template)
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    return sorted(find_undeclared_variables(tree) - own - environment().globals.keys() - set(MARKS))


@functools.lru_cache(maxsize=16)
def compiled(template: str) -> Any:
    """A template ready to render."""
    return environment().from_string(template)


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """The language: transformers' options, filters and functions, without chance and without web pages."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension], cache_size=0
    )
    made.filters = {name: made.filters[name] for name in _FILTERS.split()} | {"tojson": _to_json}
    made.globals = {"range": made.globals["range"], "dict": _dict, "namespace": PlainNamespace, "cycler": made.globals["cycler"],
                    "joiner": made.globals["joiner"], "raise_exception": _refuse, "strftime_now": _now}  # fmt: skip
    return made


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
             sort_keys: bool = False) -> str:  # fmt: skip
    """jinja2's own filter of this name writes for web pages: it escapes < and >."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _dict(*args: Any, **entries: Any) -> dict[Any, Any]:
    return dict(*args, **entries)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: names with a leading underscore are unsafe")
