"""The token view: probabilities, alternatives, entropy, and bytes of half characters."""

import math

from tests.server.studio.asking import answered, ask


def test_a_token_shows_what_else_could_have_stood_there(page, fake):
    fake.script["q"] = "lead turns to gold"
    ask(page, "q")
    answered(page)
    page.click(".foot button", "Tokens")
    assert page.run("[...document.querySelectorAll('.strip .token')].map((one) => one.className)") == [
        "token shade-0", "token shade-1", "token shade-2", "token shade-3",
    ]  # fmt: skip
    page.click(".strip .token", "turns")
    bits = -sum(p * math.log2(p) for p in (0.6, 0.2, 0.12, 0.04, 0.04))
    assert page.text(".token-panel dl").split("\n")[1::2] == ["2", "60.00 %", "-0.5108", "1", f"≥ {bits:.2f} bits"]
    rows = page.run(
        "[...document.querySelectorAll('.bars li')].map((one) => [one.className, one.querySelector('.value').innerText])"
    )
    assert rows == [["chosen", "60.0 %"], ["", "20.0 %"], ["", "12.0 %"], ["", "4.0 %"], ["rest", "4.0 %"]]
    widths = page.run(
        "[...document.querySelectorAll('.fill')].map((one) => one.getBoundingClientRect().width / one.parentElement.clientWidth)"
    )
    assert [round(width, 2) for width in widths] == [0.6, 0.2, 0.12, 0.04, 0.04]
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.run("document.activeElement.innerText.trim()") == "·gold"
    assert "10.00 %" in page.text(".token-panel dl")


def test_half_characters_are_shown_as_bytes_and_said_to_be_parts(page, fake):
    fake.script["q"] = "丹 a"
    ask(page, "q")
    answered(page)
    page.click(".foot button", "Tokens")
    assert page.run("[...document.querySelectorAll('.strip .token')].map((one) => one.innerText)") == ["E4 B8", "B9", "·a"]
    page.click(".strip .token", "B9")
    page.sees("part of 丹", ".token-panel")


def test_the_older_form_of_completions_has_a_token_view_too(page, fake):
    page.choose(".picker select", "scribe-7m")
    fake.script["q"] = "lead turns"
    ask(page, "q")
    answered(page)
    assert fake.bodies[0]["logprobs"] == 5
    page.click(".foot button", "Tokens")
    page.click(".strip .token", "turns")
    page.sees("60.00 %", ".token-panel")
