"""The page for everybody: two languages, dark and light, phones, the keyboard, no motion where it is not wanted."""

import json

import pytest
from tests.server.studio.asking import BOX, answered, ask
from tests.server.studio_records import artefact_record, engine_record, run_record


def test_english_and_chinese(page, fake):
    ask(page, "one")
    answered(page)
    page.click(".prefs button", "中文")
    page.sees("对话", ".nav")
    page.sees("种子", ".measures")
    assert page.run("document.documentElement.lang") == "zh-CN"
    assert page.text(".bubble") == "one"  # the conversation is still there
    page.run("location.reload()")
    page.sees("工件", ".nav")
    page.click(".prefs button", "English")
    page.sees("Artefacts", ".nav")


def test_the_focus_stays_where_the_reader_is(page):
    page.click(".prefs button", "中文")
    page.sees("对话", ".nav")
    page.until("document.activeElement.innerText === 'English'")
    page.run("document.querySelector('.nav a[href*=engine]').focus()")
    page.press("Enter")
    assert page.until("document.activeElement.id === 'view' && !!document.querySelector('main.engine')")


def test_the_browsers_language_decides_at_first(browser, fake, address):
    page = browser.page()
    page.speaks("zh-TW")
    page.go(address)
    page.sees("训练", ".nav")
    assert page.run("document.documentElement.lang") == "zh-CN"
    page.close()


def test_dark_and_light(page):
    ground = "getComputedStyle(document.getElementById('view')).backgroundColor"
    page.prefers(color_scheme="light")
    light = page.run(ground)
    page.prefers(color_scheme="dark")
    page.until(f"{ground} !== {json.dumps(light)}")
    page.until("document.querySelector('.prefs [aria-label]').getAttribute('aria-label') === 'Light'")
    page.click(".prefs button", "Light")
    page.until(f"{ground} === {json.dumps(light)}")
    page.run("location.reload()")
    assert page.until(f"document.querySelector('#view') && {ground} === {json.dumps(light)}")


def test_a_change_of_light_takes_neither_a_click_nor_a_message_away(page, fake):
    """A computer that turns dark at sunset does so between a press and its release, or while an error is shown."""
    place = page.place(".prefs button", "中文")
    page.mouse("mousePressed", place)
    page.prefers(color_scheme="dark")
    page.until("document.querySelector('.prefs [aria-label]').getAttribute('aria-label') === 'Light'")
    page.mouse("mouseReleased", place)
    page.sees("对话", ".nav")
    page.until("document.activeElement.innerText === 'English'")  # the new page is complete
    page.run("document.querySelector('.banner').hidden = false")
    page.run("document.querySelector('.prefs [aria-label]').focus()")
    page.prefers(color_scheme="light")
    page.until("document.activeElement.getAttribute('aria-label') === '深色'")
    assert page.run("document.querySelector('.banner').hidden") is False


def test_a_phone_shows_everything_without_scrolling_sideways(page, fake):
    fake.script["wide"] = (
        "x" * 300 + "\n\n```\n" + "y" * 300 + "\n```\n\n|" + " wide |" * 20 + "\n|" + "---|" * 20 + "\n|" + " cell |" * 20
    )
    fake.engine, fake.runs, fake.artefacts = {"models": [engine_record()]}, [run_record()], [artefact_record()]
    page.size(375, 720, phone=True)
    ask(page, "wide " * 60)
    answered(page)
    page.click(".edit")
    page.until("document.activeElement.closest('.editor') !== null")
    page.run("document.activeElement.select()")
    page.write("wide")
    page.press("Enter")
    page.sees("yyy", ".answer.done")
    page.click(".foot button", "Tokens")
    page.click(".strip .token")
    page.sees("Entropy", ".token-panel")
    sideways = "['html', 'main', '.scroller, .page'].map((one) => document.querySelector(one).scrollWidth)"
    assert max(page.run(sideways)) <= 375
    page.click(".tool", "Side by side")
    assert max(page.run(sideways)) <= 375
    page.click(".tool", "Settings")
    page.click(".panel button", "Close")
    for view, words in (("engine", "sage-134m"), ("runs", "first"), ("artefacts", "sage")):
        page.click(".nav a", view.capitalize())
        page.sees(words, "main .page")
        assert max(page.run(sideways)) <= 375


NAME = """(() => {
  const one = document.activeElement;
  const name = one.getAttribute('aria-label') || one.labels?.[0]?.innerText || one.innerText || one.title || '?';
  return one === document.body ? '' : name.trim().split('\\n')[0];
})()"""

SHOWN = """(() => {
  const one = document.activeElement;
  return one.className === 'composer-text' ? getComputedStyle(one.parentElement).borderColor : getComputedStyle(one).outlineStyle;
})()"""

NAMELESS = """[...document.querySelectorAll('button, a, input, select, textarea')].filter((one) => one.getClientRects().length
  && !(one.getAttribute('aria-label') || one.innerText.trim() || one.labels?.length || one.title)).map((one) => one.className)"""


def test_everything_is_reached_by_the_keyboard_and_has_a_name(page, fake):
    ask(page, "one")
    answered(page)
    page.run("document.querySelector('.skip').focus()")
    calm = page.run("getComputedStyle(document.querySelector('.composer-box')).borderColor")
    seen = ["Skip to content"]
    for _ in range(40):
        page.press("Tab")
        name = page.run(NAME)
        if name in ("", seen[0]):
            break
        seen.append(name)
        assert page.run(SHOWN) not in ("none", calm), f"{name} does not show that it has the focus"
    order = [
        "Skip to content", "Chat", "Engine", "Runs", "Artefacts", "Model", "Side by side", "New", "Export", "Settings", "Edit",
        "Copy", "Tokens", "Again", "Your message", "Send",
    ]  # fmt: skip
    assert [name for name in seen if name in order] == order
    assert "?" not in seen and page.run(NAMELESS) == []


FAINT = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const paint = (colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((one) => one / 255).map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const texts = [...document.querySelectorAll('#app *')].filter((one) => one.getClientRects().length
    && !one.closest(':disabled, .space, .offscreen, .skip')
    && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.map((one) => {
    const grounds = [];
    for (let at = one; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const style = getComputedStyle(one);
    const ink = style.fill !== 'rgb(0, 0, 0)' && one.ownerSVGElement ? style.fill : style.color;
    const [low, high] = [light(paint(grounds)), light(paint([...grounds, ink]))].sort((one, other) => one - other);
    return [(high + 0.05) / (low + 0.05), one.className.baseVal ?? one.className, one.textContent.slice(0, 30)];
  }).filter(([contrast]) => contrast < 4.5);
})()"""
"""Texts whose contrast with what is painted behind them is below what WCAG 2.2 (AA, 1.4.3) asks."""


@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page, fake, look):
    fake.engine, fake.runs, fake.artefacts = {"models": [engine_record()]}, [run_record()], [artefact_record()]
    fake.script["q"] = (
        "A `word`, a [link](https://example.com/).\n\n> quoted\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```"
    )
    page.click(BOX)
    page.prefers(color_scheme=look)
    page.until(f"matchMedia('(prefers-color-scheme: {look})').matches && document.activeElement.className === 'composer-text'")
    ask(page, "q")
    answered(page)
    page.click(".tool", "Settings")
    assert page.run(FAINT) == []
    page.click(".foot button", "Tokens")
    page.click(".strip .token")
    assert page.run(FAINT) == []
    for view in ("engine", "runs", "artefacts"):
        page.run(f"location.hash = '#/{view}'")
        page.until("!!document.querySelector('main .page .card')")
        assert page.run(FAINT) == []


def test_motion_is_left_out_where_it_is_not_wanted(page, fake):
    fake.pause_s = 0.3
    page.prefers(reduced_motion="reduce")
    ask(page, "one")
    page.until("!!document.querySelector('.pulse')")
    assert page.run("getComputedStyle(document.querySelector('.pulse')).animationName") == "none"
