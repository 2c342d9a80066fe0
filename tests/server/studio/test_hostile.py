"""Text of a model that wants to be more than text: nothing runs, nothing is fetched, nothing breaks the policy."""

import pytest
from tests.server.browser import Page
from tests.server.studio.asking import answered, ask
from tests.server.studio_records import artefact_record, engine_record, run_record

ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload=window.hacked=1><a href='javascript:window.hacked=1'>x</a></svg>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe><style>body{display:none}</style>",
    "[click](javascript:window.hacked=1) [x](JaVaScRiPt:window.hacked=1) [y](  javascript:window.hacked=1  )",
    "[a](data:text/html,<script>alert(1)</script>) [b](vbscript:x) [c](file:///etc/passwd) [d](//evil.example/x) [e](/v1/models)",
    "[f](https://user:pass@evil.example/) [g](https://evil.example\\@good.example)",
    "[h](java\nscript:alert(1)) <javascript:alert(1)>",
    "![x](https://evil.example/pixel.png) ![y](data:image/svg+xml,<svg onload=alert(1)>) ![z](javascript:alert(1))",
    '[t](https://evil.example "\\" onmouseover=window.hacked=1 x=\\"")',
    "```html\n<script>window.hacked = 1</script>\n```\n`<img src=x onerror=window.hacked=1>`",
    "| <script>window.hacked=1</script> | b |\n|---|---|\n| [x](javascript:window.hacked=1) | <b onclick=window.hacked=1>c</b> |",
    "# <script>window.hacked=1</script>\n> <img src=x onerror=window.hacked=1>\n- <svg/onload=window.hacked=1>",
    "&lt;script&gt;window.hacked=1&lt;/script&gt; &#106;avascript:window.hacked=1 [x](&#106;avascript:window.hacked=1)",
    '```" onmouseover="window.hacked=1\nx\n```',
    "__proto__ constructor {{constructor.constructor('window.hacked=1')()}} ${window.hacked=1}",
]


WATCH = """document.addEventListener('securitypolicyviolation', (event) => {
  (window.violations ??= []).push(event.violatedDirective);
})"""


@pytest.fixture
def tame(page: Page) -> Page:
    """The page, with an eye on everything that could be a way out of the text."""
    page.run(WATCH)
    return page


def harmless(page: Page) -> None:
    found = page.run("""({
      hacked: window.hacked ?? null, violations: window.violations ?? [],
      strange: document.querySelectorAll('main :is(script, iframe, object, embed, style, link, form, base, video, audio)').length,
      pictures: [...document.querySelectorAll('main img')].map((one) => one.getAttribute('src')),
      handlers: [...document.querySelectorAll('main *')].flatMap((one) => [...one.attributes])
        .filter((one) => /^on|^srcdoc$/.test(one.name)).length
        + document.querySelectorAll('.content [style], .prose [style]').length,
      links: [...document.querySelectorAll('main :is(.content, .prose) a[href]')]
        .map((one) => [one.protocol, one.rel, one.target, one.username])})""")
    assert (found["hacked"], found["violations"], found["strange"], found["handlers"]) == (None, [], 0, 0)
    assert set(found["pictures"]) <= {"/studio/mark.svg"}
    assert all(
        link == [link[0], "noopener noreferrer nofollow", "_blank", ""] and link[0] in ("http:", "https:")
        for link in found["links"]
    )


def test_nothing_a_model_writes_is_run_or_fetched(tame, fake):
    fake.script["attack"] = "\n\n".join(ATTACKS)
    ask(tame, "attack")
    answered(tame)
    harmless(tame)
    shown = tame.text(".answer .content")
    assert "<script>window.hacked = 1</script>" in shown and "javascript:window.hacked=1" in shown
    links = tame.run("[...document.querySelectorAll('.content a')].map((one) => one.href)")
    assert set(links) == {"https://evil.example/pixel.png", "https://evil.example/"}
    tame.click(".foot button", "Tokens")
    tame.until("!!document.querySelector('.strip .token')")
    harmless(tame)


def test_names_and_records_are_text_wherever_they_are_shown(browser, fake, address):
    bad = "<img src=x onerror='window.hacked=1'>"
    fake.models = [{**fake.models[0], "id": bad}]
    fake.runs = [{**run_record(), "name": bad, "samples": [{"step": 1, "time": 0, "prompt": bad, "text": ATTACKS[0]}], "notes": [
        {"time": 0, "kind": "warn", "text": bad}], "settings": {bad: bad}, "ledger": {bad: {bad: 1}}}]  # fmt: skip
    fake.artefacts = [
        {**artefact_record(), "model": bad, "name": bad, "card": "\n\n".join(ATTACKS), "sources": [bad], "metrics": {bad: 1}}
    ]
    fake.engine = {"models": [{**engine_record(), "id": bad, "kernel": bad}]}
    page = browser.page()
    page.go(address)
    page.run(WATCH)
    ask(page, bad)
    answered(page)
    harmless(page)
    for view, words in (("engine", bad), ("runs", bad), ("artefacts", bad)):
        page.run(f"location.hash = '#/{view}'")
        page.sees(words, f"main.{view}")
        harmless(page)
    assert page.complaints() == []
    page.close()


def test_the_browser_itself_refuses_markup_from_strings(page):
    refused = page.run(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false } catch (error) { return error.name } })()"
    )
    assert refused == "TypeError"
    assert page.run("(() => { try { return eval('1') } catch (error) { return error.name } })()") == "EvalError"
    page.browser.events.clear()
