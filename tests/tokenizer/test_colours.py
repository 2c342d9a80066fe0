"""Samples for the eye: every character is shown once, taught ones apart, special tokens by themselves, nothing as markup."""

import io

from rich.console import Console
from tests.tokenizer import templates

from danlu.core.labels import NO_LABEL
from danlu.tokenizer.chat import CHATML
from danlu.tokenizer.colours import coloured, of_targets, show, show_all, shown_html, stretches
from danlu.tokenizer.trainers.bytes import Bytes
from danlu.tokenizer.turns import taught, with_template

TALK = [{"role": "user", "content": "[bold]炉火?<b>"}, {"role": "assistant", "content": "Warm 丹."}]


def sample(style=None):
    tokenizer = templates.tokenizer(style) if style else with_template(Bytes(Bytes.Config()).train(), CHATML)
    return tokenizer, taught(tokenizer, tokenizer.chat_template, TALK)


def test_stretches_join_to_the_whole_and_split_where_teaching_does():
    for style in (None, "pieces"):  # joined by bytes, and by pieces that change with their neighbours
        tokenizer, found = sample(style)
        parts = stretches(found.ids, found.mask, tokenizer)
        assert "".join(part.text for part in parts) == tokenizer.decode(found.ids)
        assert "".join(part.text for part in parts if part.taught).strip() == f"Warm 丹.{'</s>' if style else '<|im_end|>'}"
        assert [part.text for part in parts if part.special] == [
            tokenizer.decode([one]) for one in found.ids if one in tokenizer.special_tokens.values()
        ]


def test_targets_are_shown_as_the_tokens_that_they_ask_for():
    _, found = sample()
    targets = [number if learned else NO_LABEL for number, learned in zip(found.ids[1:], found.mask[1:], strict=True)]
    assert of_targets(found.ids[:-1], targets) == (found.ids[:-1], found.mask[:-1])  # a newline follows the end of the turn
    end = found.turns[0].end
    assert of_targets(found.ids[: end - 1], targets[: end - 1]) == (found.ids[:end], found.mask[:end])
    assert of_targets([], []) == ([], [])


def test_a_terminal_shows_colours_and_a_file_shows_signs():
    tokenizer, found = sample()
    plain, colour = io.StringIO(), io.StringIO()
    show(found.ids, found.mask, tokenizer, "talk.json:3", Console(file=plain))
    show_all([found], tokenizer, Console(file=colour, force_terminal=True, color_system="truecolor"))
    assert plain.getvalue().startswith(f"talk.json:3: {len(found.ids)} tokens, {sum(found.mask)} of them taught")
    assert "[bold]炉火?<b><|im_end|>" in plain.getvalue() and "⟦Warm 丹.<|im_end|>⟧" in plain.getvalue()
    assert "\x1b[1;32mWarm 丹.\x1b[0m" in colour.getvalue() and "⟦" not in colour.getvalue()
    assert coloured(found.ids, found.mask, tokenizer).plain == tokenizer.decode(found.ids)


def test_html_escapes_what_was_said():
    tokenizer, found = sample()
    text = shown_html([(found.ids, found.mask, "a<b")], tokenizer)
    assert "a&lt;b: " in text and "[bold]炉火?&lt;b&gt;<i>&lt;|im_end|&gt;</i>" in text
    assert "<b>Warm 丹.</b><b><i>&lt;|im_end|&gt;</i></b>" in text
