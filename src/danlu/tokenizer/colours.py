"""What of a sample is taught, for the eye: its text with the taught tokens in colour, special tokens boxed, the rest grey.

On a terminal without colours the taught stretches stand between ⟦ and ⟧. `shown_html` is the same for reports.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from danlu.core.labels import NO_LABEL
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import Taught

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES = {(True, False): "bold green", (True, True): "bold black on green", (False, False): "bright_black",
           (False, True): "black on bright_black"}  # fmt: skip
"""Of a stretch that is taught, and one that is a special token."""
_STYLE = """<style>
pre.taught{color:#7a828c}pre.taught b{color:#14803c;font-weight:600}pre.taught i{font-style:normal;border:1px solid;
border-radius:3px;padding:0 .2em}@media(prefers-color-scheme:dark){pre.taught b{color:#5fd38a}}
</style>"""


@dataclass(frozen=True)
class Stretch:
    """Tokens beside one another that are alike, or one special token."""

    text: str
    taught: bool
    special: bool


def stretches(ids: Sequence[int], mask: Sequence[bool], tokenizer: Tokenizer) -> list[Stretch]:
    """A sample in stretches whose texts join to the whole. A character of several tokens is as taught as its last one."""
    special = set(tokenizer.special_tokens.values())
    found: list[Stretch] = []
    decoder = tokenizer.decoder()

    def add(text: str, taught: bool, boxed: bool) -> None:
        if found and not boxed and not found[-1].special and found[-1].taught == taught:
            found[-1] = Stretch(found[-1].text + text, taught, False)
        elif text:
            found.append(Stretch(text, taught, boxed))

    for number, taught in zip(ids, mask, strict=True):
        if number in special:
            add(decoder.flush(), taught, False)
            decoder = tokenizer.decoder()
            add(tokenizer.decode([number]), taught, True)
        else:
            add(decoder.push(number), taught, False)
    add(decoder.flush(), bool(mask[-1]) if len(mask) else False, False)
    return found


def of_targets(ids: Iterable[int], targets: Iterable[int]) -> tuple[list[int], list[bool]]:
    """Ids with what is asked for after each, as tokens with whether each is taught."""
    numbers, asked = list(ids), list(targets)
    mask = [False, *(target != NO_LABEL for target in asked)]
    return ([*numbers, asked[-1]], mask) if asked and asked[-1] != NO_LABEL else (numbers, mask[: len(numbers)])


def coloured(ids: Sequence[int], mask: Sequence[bool], tokenizer: Tokenizer, plain: bool = False) -> "Text":
    """A sample as text for a terminal; `plain`: with signs in place of colours."""
    from rich.text import Text

    text = Text()
    before = False
    for part in stretches(ids, mask, tokenizer):
        if plain and part.taught != before:
            text.append("⟦" if part.taught else "⟧")
        before = part.taught
        text.append(part.text, style=_STYLES[part.taught, part.special])
    return text.append("⟧") if plain and before else text


def said_of(mask: Sequence[bool], origin: str = "") -> str:
    """One line about a sample: where it is from and how much of it is taught.

    >>> said_of([False, True, True, False], "talk.json:3")
    'talk.json:3: 4 tokens, 2 of them taught (50%)'
    """
    count = sum(mask)
    return f"{origin}{': ' if origin else ''}{len(mask)} tokens, {count} of them taught ({count / max(len(mask), 1):.0%})"


def show(ids: Sequence[int], mask: Sequence[bool], tokenizer: Tokenizer, origin: str = "",
         console: "Console | None" = None) -> None:  # fmt: skip
    """Print a sample, by default to stderr."""
    from rich.console import Console

    console = console or Console(stderr=True, highlight=False)
    console.print(said_of(mask, origin), style="bold", markup=False, highlight=False)
    plain = not console.is_terminal or console.no_color
    console.print(coloured(ids, mask, tokenizer, plain), soft_wrap=True, highlight=False)
    console.print()


def show_all(samples: Sequence[Taught], tokenizer: Tokenizer, console: "Console | None" = None) -> None:
    """Print conversations."""
    for number, sample in enumerate(samples, 1):
        show(sample.ids, sample.mask, tokenizer, f"sample {number}", console)


def shown_html(samples: Iterable[tuple[Sequence[int], Sequence[bool], str]], tokenizer: Tokenizer) -> str:
    """Samples (ids, mask, origin) as HTML for a report page; every text is escaped."""
    parts: list[Any] = [_STYLE]
    for ids, mask, origin in samples:
        inner = "".join(_marked(part) for part in stretches(ids, mask, tokenizer))
        parts.append(f'<p class="small">{html.escape(said_of(mask, origin))}</p><pre class="taught">{inner}</pre>')
    return "".join(parts)


def _marked(part: Stretch) -> str:
    text = html.escape(part.text)
    text = f"<i>{text}</i>" if part.special else text
    return f"<b>{text}</b>" if part.taught else text
