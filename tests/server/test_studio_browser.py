"""What a reader gets: the studio in a real headless Chromium, against a server whose answers a test writes."""

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.browser import Browser, Page, executable
from tests.server.fake_backend import ANSWER, KEY, Fake, serving

CHROMIUM = executable()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is missing: apt-get install chromium, or set CHROMIUM to the path of a Chromium or Chrome"
)

BOX = ".composer-text"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM
    found = Browser(CHROMIUM)
    yield found
    found.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Fake, str]]:
    """One server for all tests, and its address."""
    fake = Fake()
    with serving(fake.app()) as address:
        yield fake, address


@pytest.fixture
def fake(stage: tuple[Fake, str]) -> Fake:
    """The server as it is at first."""
    stage[0].forget()
    return stage[0]


@pytest.fixture
def address(stage: tuple[Fake, str]) -> str:
    return stage[1]


@pytest.fixture
def page(browser: Browser, fake: Fake, address: str) -> Iterator[Page]:
    """The studio, opened; at the end of each test the browser must have had nothing to complain of."""
    opened = browser.page()
    opened.speaks("en-GB")
    opened.go(address)
    yield opened
    complaints = opened.complaints()
    opened.close()
    assert complaints == []


def ask(page: Page, text: str) -> None:
    page.click(BOX)
    page.write(text)
    page.press("Enter")


def answered(page: Page, count: int = 1) -> None:
    page.until(f"document.querySelectorAll('.answer.done').length === {count}")


# -- the chat ----------------------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_while_the_reader_watches(page, fake):
    fake.pause_s = 0.05
    ask(page, "What is cinnabar?")
    page.until("document.querySelector('.answer.writing .content')?.innerText.length > 4")
    early = page.text(".answer .content")
    answered(page)
    assert page.text(".answer .content") == ANSWER.replace("**", "")
    assert ANSWER.startswith(early) and len(early) < len(ANSWER)
    assert page.run("document.querySelector('.content strong').textContent") == "Cinnabar"
    assert fake.bodies[0]["messages"] == [{"role": "user", "content": "What is cinnabar?"}]
    assert fake.bodies[0]["stream"] is True and fake.bodies[0]["stream_options"] == {"include_usage": True}
    assert "tokens/s" in page.text(".measures") and f"seed {fake.bodies[0]['seed']}" in page.text(".measures")
    assert ANSWER in page.text("[aria-live=polite].offscreen")


def test_the_conversation_goes_along_with_the_next_question(page, fake):
    ask(page, "one")
    answered(page)
    ask(page, "two")
    answered(page, 2)
    roles = [(message["role"], message["content"]) for message in fake.bodies[1]["messages"]]
    assert roles == [("user", "one"), ("assistant", ANSWER), ("user", "two")]


def test_shift_enter_breaks_the_line_and_an_empty_message_is_not_sent(page, fake):
    page.press("/")
    assert page.run("document.activeElement.className") == "composer-text"
    page.press("Enter")
    page.write("one")
    page.press("Enter", shift=True)
    page.write("two")
    page.press("Enter")
    answered(page)
    assert [body["messages"][-1]["content"] for body in fake.bodies] == ["one\ntwo"]


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_stop_ends_the_answer_here_and_there(page, fake, way):
    fake.pause_s, fake.script["long"] = 0.05, "word " * 400
    ask(page, "long")
    page.until("document.querySelector('.answer.writing .content')?.innerText.length > 10")
    if way == "Escape":
        page.press("Escape")
    else:
        page.click(".send.busy")
    page.sees("Stopped.", ".answer.stopped")
    deadline = time.monotonic() + 5
    while not fake.left and time.monotonic() < deadline:
        time.sleep(0.02)
    assert fake.left == ["sage-134m"]
    assert 10 < len(page.text(".answer .content")) < 1500


def test_again_asks_anew_with_another_seed_and_edit_asks_otherwise(page, fake):
    ask(page, "one")
    answered(page)
    page.click(".foot button", "Again")
    page.until("document.querySelectorAll('.answer.done').length === 1 && !document.querySelector('.send.busy')")
    assert [body["messages"] for body in fake.bodies] == [[{"role": "user", "content": "one"}]] * 2
    assert fake.bodies[0]["seed"] != fake.bodies[1]["seed"]
    page.click(".edit")
    page.until("document.activeElement.closest('.editor') !== null")
    page.run("document.activeElement.select()")
    page.write("another")
    page.press("Enter")
    answered(page)
    assert page.text(".bubble") == "another"
    assert fake.bodies[2]["messages"] == [{"role": "user", "content": "another"}]


def test_only_settings_that_were_set_are_sent(page, fake):
    page.click(".tool", "Settings")
    values = {"temperature": "0.7", "top_p": "0.9", "top_k": "40", "min_p": "0.05", "max_tokens": "33", "seed": "7"}
    for name, value in values.items():
        page.click(f"input[aria-describedby=help-{name}]")
        page.write(value)
    page.click(".panel textarea")
    page.write("Be brief.")
    page.click(".panel textarea.mono")
    page.write("END\n###")
    ask(page, "one")
    answered(page)
    body = fake.bodies[0]
    assert {name: body[name] for name in ("temperature", "top_p", "top_k", "min_p", "seed", "stop", "max_completion_tokens")} == {
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7, "stop": ["END", "###"], "max_completion_tokens": 33,
    }  # fmt: skip
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["logprobs"], body["top_logprobs"]) == (True, 10)
    page.click("input[aria-describedby=help-temperature]")
    page.write("99")  # now 0.799: two points are no number
    page.click(".panel button", "Reset")
    page.click(".panel .check input")
    ask(page, "two")
    answered(page, 2)
    assert set(fake.bodies[1]) == {"model", "stream", "stream_options", "seed", "messages"}


def test_a_number_out_of_range_is_said_and_not_sent(page, fake):
    page.click(".tool", "Settings")
    page.click("input[aria-describedby=help-temperature]")
    page.write("5")
    page.sees("A number from 0 to 2.", "#help-temperature")
    ask(page, "one")
    answered(page)
    assert "temperature" not in fake.bodies[0]


def test_a_base_model_goes_on_with_the_text(page, fake):
    page.choose(".picker select", "scribe-7m")
    page.sees("has no chat template", ".notices")
    ask(page, "Once upon")
    answered(page)
    assert fake.bodies[0]["prompt"] == "Once upon" and "messages" not in fake.bodies[0]
    assert page.text(".continuation") == "Once upon" + ANSWER
    page.click(".foot button", "Go on")
    answered(page, 2)
    assert fake.bodies[1]["prompt"] == "Once upon" + ANSWER


def test_two_models_side_by_side(page, fake):
    page.click(".tool", "Side by side")
    fake.script["Which?"] = "This one."
    page.choose(".picker:nth-of-type(2) select", "scribe-7m")
    ask(page, "Which?")
    answered(page, 2)
    assert {body["model"]: body.get("prompt", body.get("messages")) for body in fake.bodies} == {
        "sage-134m": [{"role": "user", "content": "Which?"}], "scribe-7m": "Which?",
    }  # fmt: skip
    assert fake.bodies[0]["seed"] == fake.bodies[1]["seed"]
    left, right = page.run("[...document.querySelectorAll('.column')].map((one) => one.getBoundingClientRect().toJSON())")
    assert left["right"] <= right["left"] and abs(left["top"] - right["top"]) < 1
    assert page.run("[...document.querySelectorAll('.who')].map((one) => one.innerText)") == ["sage-134m", "scribe-7m"]
    ask(page, "And?")
    answered(page, 4)
    mine = next(body for body in fake.bodies[2:] if body["model"] == "sage-134m")
    assert [message["content"] for message in mine["messages"]] == ["Which?", "This one.", "And?"]


@pytest.mark.parametrize(("end", "words"), [(None, "without a finish reason"), ("error", "The engine was shut down.")])
def test_an_answer_that_does_not_end_properly_has_failed(page, fake, end, words):
    fake.end = end
    ask(page, "one")
    page.sees(words, ".answer.failed [role=alert]")
    assert page.text(".answer .content") == ANSWER.replace("**", "")


def test_the_servers_own_words_are_shown_when_it_refuses(page, fake):
    ask(page, "refuse")
    page.sees("The prompt has 9,000 tokens and the context 2,048.", ".answer.failed")
    page.browser.events.clear()  # the browser logs the 400 itself
    fake.end = "length"
    ask(page, "one")
    page.sees("Cut at the greatest number of tokens.", ".answer.done")
    assert len(fake.bodies[1]["messages"]) == 1  # what got no answer does not go along


def test_the_conversation_is_exported_with_all_that_is_known_of_it(page, fake):
    fake.script["字"] = "丹 ok"
    ask(page, "字")
    answered(page)
    page.click(".tool", "Export")
    found: list[Path] = []
    deadline = time.monotonic() + 10
    while not found and time.monotonic() < deadline:
        found = list(page.browser.downloads.glob("danlu-*.json"))
        time.sleep(0.02)
    time.sleep(0.1)
    saved = json.loads(found[0].read_text(encoding="utf-8"))
    [turn] = saved["turns"]
    [answer] = turn["answers"]
    assert (saved["format"], turn["user"], answer["text"]) == ("danlu.conversation", "字", "丹 ok")
    assert (answer["model"], answer["finish_reason"], answer["seed"]) == ("sage-134m", "stop", fake.bodies[0]["seed"])
    assert bytes(byte for token in answer["tokens"] for byte in token["bytes"]).decode() == "丹 ok"


def test_the_key_is_asked_for_once_and_kept_in_this_tab_only(browser, fake, address):
    fake.key = KEY
    page = browser.page()
    page.speaks("en-GB")
    page.call("Page.navigate", url=address)
    for word in ("wrong-key", KEY):
        page.until("document.querySelector('dialog[open] input')?.value === ''")
        page.write(word)
        page.press("Enter")
    page.until("document.querySelector('.picker select')?.options.length === 2")
    ask(page, "one")
    answered(page)
    page.run("location.reload()")
    page.until("document.querySelector('.picker select')?.options.length === 2")
    assert page.run("[sessionStorage.getItem('danlu.key'), JSON.stringify(localStorage).includes('key')]") == [KEY, False]
    assert all("401" in complaint for complaint in page.complaints())
    page.close()


# -- hostile text ------------------------------------------------------------------------------------------------------------------

ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload=window.hacked=1><a href='javascript:window.hacked=1'>x</a></svg>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe><style>body{display:none}</style>",
    "[click](javascript:window.hacked=1) [x](JaVaScRiPt:window.hacked=1) [y](  javascript:window.hacked=1  )",
    "[a](data:text/html,<script>alert(1)</script>) [b](vbscript:x) [c](file:///etc/passwd) [d](//evil.example/x) [e](/v1/models)",
    "[f](https://user:pass@evil.example/) [g](https://evil.example\\@good.example) [h](java\nscript:alert(1)) <javascript:alert(1)>",
    "![x](https://evil.example/pixel.png) ![y](data:image/svg+xml,<svg onload=alert(1)>) ![z](javascript:alert(1))",
    '[t](https://evil.example "\\" onmouseover=window.hacked=1 x=\\"")',
    "```html\n<script>window.hacked = 1</script>\n```\n`<img src=x onerror=window.hacked=1>`",
    "| <script>window.hacked=1</script> | b |\n|---|---|\n| [x](javascript:window.hacked=1) | <b onclick=window.hacked=1>c</b> |",
    "# <script>window.hacked=1</script>\n> <img src=x onerror=window.hacked=1>\n- <svg/onload=window.hacked=1>",
    "&lt;script&gt;window.hacked=1&lt;/script&gt; &#106;avascript:window.hacked=1 [x](&#106;avascript:window.hacked=1)",
    '```" onmouseover="window.hacked=1\nx\n```',
    "__proto__ constructor {{constructor.constructor('window.hacked=1')()}} ${window.hacked=1}",
]


@pytest.fixture
def tame(page: Page) -> Page:
    """The page, with an eye on everything that could be a way out of the text."""
    page.run(
        "document.addEventListener('securitypolicyviolation', (event) => (window.violations ??= []).push(event.violatedDirective))"
    )
    return page


def harmless(page: Page) -> None:
    found = page.run("""({
      hacked: window.hacked ?? null, violations: window.violations ?? [],
      strange: [...document.querySelectorAll('main :is(script, iframe, object, embed, style, link, form, base, video, audio, source)')].length,
      pictures: [...document.querySelectorAll('main img')].map((one) => one.getAttribute('src')),
      handlers: [...document.querySelectorAll('main *')].flatMap((one) => [...one.attributes]).filter((one) => /^on|^srcdoc$/.test(one.name)).length
        + document.querySelectorAll('.content [style], .prose [style]').length,
      links: [...document.querySelectorAll('main :is(.content, .prose) a[href]')].map((one) => [one.protocol, one.rel, one.target, one.username])})""")
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
    page.run(
        "document.addEventListener('securitypolicyviolation', (event) => (window.violations ??= []).push(event.violatedDirective))"
    )
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


# -- markdown ----------------------------------------------------------------------------------------------------------------------

SAMPLES = [
    "Plain text with `code`, **strong**, *slanted*, ~~gone~~ and ***both***.",
    "# One\n## Two ##\n### Three\n\ntext",
    "- one\n- two\n  - inner\n    - deeper\n- three\n\nafter",
    "1. one\n2. two\n\n   more of two\n3. three",
    "3) three\n4) four",
    "* a\n\n* b\n\n* c",
    "> quoted\n> more\n>\n> > inner\n\nafter",
    "```python\nif a < b:\n    print('**no**')\n```\n\n~~~\nx\n~~~",
    "| a | b |\n|:--|--:|\n| 1 | **2** |\n| x \\| y | `c` |",
    "one\ntwo  \nthree\\\nfour",
    "a * b * c and 2*3*4 and snake_case_name and _yes_ and __strong__",
    "[link](https://example.com/a_(b)) and <https://example.org/> and \\*not slanted\\*",
    "`` a ` b `` and ` ` and ```c```",
    "text\n***\ntext\n\n---\n",
    "- a\n\n  ```\n  code\n\n  more\n  ```\n- b",
    "**a *b* c** and *a **b** c*",
    "1. a\n   - b\n   - c\n2. d",
    "- [link](https://example.com/)\n- `code`\n\n1. new",
    "这是**重点**，这是*斜体*。`代码`在这里。",
    "unclosed **strong and `code and [link](",
]

SERIALISE = """(async () => {
  const {render} = await import('/studio/markdown.js');
  const write = (node) => {
    if (node.nodeType === 3) return node.data.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
    const inner = [...node.childNodes].map(write).join('');
    const tag = node.localName;
    if (node.className === 'code') return write(node.querySelector('pre'));
    if (['div', 'svg', 'tbody', 'thead'].includes(tag)) return inner;
    if (['br', 'hr'].includes(tag)) return `<${tag}>`;
    const start = tag === 'ol' && node.start !== 1 ? ` start="${node.start}"` : '';
    return tag === 'a' ? `<a href="${node.getAttribute('href')}">${inner}</a>` : `<${tag}${start}>${inner}</${tag}>`;
  };
  return %s.map((text) => write(render(text)));
})()"""


def test_markdown_is_read_as_markdown_it_reads_it(page):
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is missing: pip install markdown-it-py")
    reference = markdown_it.MarkdownIt("commonmark", {"breaks": True, "html": False}).enable(["table", "strikethrough"])
    reference.disable(["lheading", "code", "html_block", "html_inline"])
    expected = []
    for text in SAMPLES:
        plain = (
            reference.render(text)
            .replace("<s>", "<del>")
            .replace("</s>", "</del>")
            .replace("<br />", "<br>")
            .replace("<hr />", "<hr>")
        )
        plain = plain.replace("</code></pre>", "\0").replace("\n\0", "</code></pre>").replace("\0", "</code></pre>")
        plain = re.sub(r'<code class="[^"]*">', "<code>", plain)
        inside = [part if at % 2 else squeeze(part) for at, part in enumerate(split_code(plain))]
        expected.append("".join(inside))
    found = page.run(SERIALISE % json.dumps(SAMPLES))
    for text, mine, theirs in zip(SAMPLES, found, expected, strict=True):
        assert mine == theirs, text


def split_code(html: str) -> list[str]:
    return re.split(r"(<pre>.*?</pre>)", html, flags=re.DOTALL)


def squeeze(html: str) -> str:
    """Without what differs in writing only: newlines between tags, classes and alignments, the body of tables."""
    html = re.sub(r"<(/?)(?:tbody|thead)>\n?", "", html)
    html = re.sub(r' (?:style|class|title)="[^"]*"', "", html)
    return html.replace("\n", "")


def test_markdown_takes_time_in_proportion_to_the_text(page):
    """Texts that make careless parsers take for ever, at 20,000 characters."""
    bombs = ["[" * 20000, "*a " * 7000, "**" * 10000, "`" * 20000, "`a``" * 5000, "> " * 10000, "- " * 10000, "![" * 10000, "[a](" * 5000, "<" * 20000,
             "_a_" * 7000, "$a" * 10000, "\\(" * 10000, "|" * 20000, "| a\n|-" * 3000, "#" * 20000 + "x", " " * 20000 + "x", "~~a" * 7000,
             "1. a\n" * 4000, "***a" * 5000, "http://" * 3000, "*" * 20000 + "a", "- " * 500 + "\n" * 10000]  # fmt: skip
    slow = page.run(f"""(async () => {{
      const {{render}} = await import('/studio/markdown.js');
      return {json.dumps(bombs)}.map((text) => {{ const begun = performance.now(); render(text); return [text.slice(0, 6), performance.now() - begun]; }})
        .filter(([, spent]) => spent > 1500);
    }})()""")
    assert slow == []


def test_a_growing_text_keeps_the_blocks_that_are_done(page):
    kept = page.run("""(async () => {
      const {Growing} = await import('/studio/markdown.js');
      const root = document.createElement('div');
      const growing = new Growing(root);
      growing.show('# one\\n\\ntwo');
      const first = root.firstChild;
      growing.show('# one\\n\\ntwo and **mo');
      growing.show('# one\\n\\ntwo and **more**\\n\\nthree');
      return [root.firstChild === first, root.innerText, root.childNodes.length];
    })()""")
    assert kept == [True, "onetwo and morethree", 3]


# -- tokens ------------------------------------------------------------------------------------------------------------------------


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


# -- engine, runs, artefacts -------------------------------------------------------------------------------------------------------


def engine_record() -> dict[str, Any]:
    return {
        "id": "sage-134m", "kind": "causal", "state": "ready", "context": 2048, "kernel": "native int8 exact", "fingerprint": "dl_1", "chat": True,
        "running": 2, "waiting": 1, "rows": 16, "steps": 9, "preemptions": 0,
        "blocks": {"total": 256, "used": 40, "cached": 100, "free": 116, "tokens": 16}, "prefix": {"queried_tokens": 5120, "hit_tokens": 4096},
        "tokens": {"prompt": 5120, "generated": 800}, "rates": {"prompt_tokens_per_s": 0.0, "generated_tokens_per_s": 71.2},
        "requests": [{"id": "row 3, choice 0", "state": "running", "doing": "writing", "prompt_tokens": 512, "cached_tokens": 496, "generated_tokens": 17, "choices": 1,
                      "age_s": 0.8, "adapter": None}],
    }  # fmt: skip


def run_record(steps: int = 30) -> dict[str, Any]:
    at = list(range(1, steps + 1))
    return {
        "object": "danlu.run", "name": "first", "state": "running", "updated": 1764000000.0, "step": steps, "steps": 100, "tokens": 1000 * steps,
        "loss": 9 / (1 + steps), "heldout_loss": 3.25, "heldout_bits_per_byte": 1.5, "tokens_per_s": 5210.0, "seconds": 2.0 * steps,
        "curve": {"step": at, "tokens": [1000 * n for n in at], "loss": [9 / (1 + n) for n in at], "grad_norm": [1.0 for _ in at],
                  "lr": [1e-3 for _ in at], "tokens_per_s": [5000.0 for _ in at], "seconds": [2.0 * n for n in at]},
        "heldout": {"step": [10, 20], "tokens": [10_000, 20_000], "loss": [4.5, 3.25], "bits_per_byte": [2.0, 1.5]},
        "samples": [{"step": 10, "time": 1764000000.0, "prompt": "Once", "text": " there was"}], "guard": [], "checkpoints": [],
        "notes": [{"time": 1764000000.0, "kind": "say", "text": "the plan: a small one"}], "plan": {"reasons": ["narrow is fast"], "steps": 100},
        "settings": {"seed": 0}, "ledger": None, "metrics": None,
    }  # fmt: skip


def artefact_record() -> dict[str, Any]:
    return {
        "object": "danlu.artefact", "model": "sage-134m", "name": "sage", "id": "0123456789abcdef", "kind": "model", "stage": "pretrain",
        "created": "2026-11-29T21:00:00+00:00", "licences": ["CC0-1.0"], "sources": ["poems"], "metrics": {"heldout_loss": 3.21},
        "ledger": {"poems": {"documents": 12, "tokens": 3456}}, "settings": {"seed": 0}, "wall_s": 180.0,
        "files": [{"file": "model.safetensors", "bytes": 536_000_000}, {"file": "config.json", "bytes": 900}],
        "card": "---\nlibrary_name: danlu\n---\n\n# sage\n\nA **small** model.\n\n| what | value |\n|---|---|\n| loss | 3.21 |\n",
        "tree": [
            {"depth": 0, "role": None, "id": "0123456789abcdef", "name": "sage", "kind": "model", "stage": "pretrain", "created": None, "bytes": None,
             "files": None},
            {"depth": 1, "role": "data", "id": "fedc", "name": "poems", "kind": "dataset", "stage": "prepare", "created": None, "bytes": None, "files": None},
            {"depth": 2, "role": "raw", "id": "sha256:00ff", "name": "poems.txt", "kind": None, "stage": None, "created": None, "bytes": 2048, "files": None},
            {"depth": 1, "role": "tokenizer", "id": "aaaa", "name": "tok", "kind": "tokenizer", "stage": "tokenizer", "created": None, "bytes": None,
             "files": None},
        ],
    }  # fmt: skip


def test_the_engine_view_follows_the_engine(page, fake):
    fake.engine = {"models": [engine_record()]}
    page.click(".nav a", "Engine")
    page.sees("80.0 %", ".tile")
    assert page.run("[...document.querySelectorAll('.tile b')].map((one) => one.innerText)") == ["2", "1", "71.2", "80.0 %"]
    assert "in use 40, shared 0" in page.run("document.querySelector('.blocks').getAttribute('aria-label')")
    assert page.run("document.querySelectorAll('.blocks path').length") == 3
    assert page.run("[...document.querySelectorAll('tbody td')].map((one) => one.innerText)")[:6] == [
        "3 · 0",
        "writing",
        "800 ms",
        "512",
        "496",
        "17",
    ]
    fake.engine = {
        "models": [{**engine_record(), "running": 0, "requests": [], "blocks": {"total": 8, "tokens": 16, "map": "00123330"}}]
    }
    page.sees("Nobody is asking", timeout_s=5)
    assert (
        page.run("document.querySelector('.blocks').getAttribute('aria-label')") == "free 3, kept for reuse 1, in use 1, shared 3"
    )


def test_the_runs_view_grows_with_the_run(page, fake):
    fake.runs = [run_record(30)]
    page.click(".nav a", "Runs")
    page.sees("step 30 of 100", ".detail")
    points = "document.querySelector('.chart .faint path').getAttribute('d').split('L').length"
    assert page.until(points) == 30
    assert page.run("document.querySelectorAll('.chart .line-b circle').length") == 2
    page.sees("there was", ".timeline")
    page.sees("The ledger is closed when the run ends. So far 30,000 tokens", ".fold")
    later = run_record(60)
    later["samples"].append({"step": 50, "time": 1.0, "prompt": "Once", "text": " upon a time"})
    fake.runs = [later]
    page.sees("upon a time", ".timeline", timeout_s=6)
    assert page.run(points) == 60
    page.move(".chart", 0.5)
    page.until("!!document.querySelector('.cursor circle')")
    assert 25 < int(page.text(".readout .x").removeprefix("Step ")) < 35
    page.choose(".chart-tools .choice:nth-of-type(2) select", "tokens")
    page.sees("Tokens", ".axis-name")
    done = {
        **run_record(100),
        "state": "finished",
        "ledger": {"poems": {"documents": 12, "tokens": 3456}},
        "metrics": {"heldout_loss": 3.0},
    }
    fake.runs = [done]
    page.sees("3,456", ".fold table", timeout_s=6)


def test_the_artefact_view_shows_card_sizes_lineage_and_licences(page, fake):
    fake.artefacts = [artefact_record()]
    page.click(".nav a", "Artefacts")
    page.sees("CC0-1.0", ".facts")
    page.sees("511 MiB", ".facts")
    assert page.run("document.querySelector('.prose strong').textContent") == "small"
    assert "library_name" not in page.text(".prose")
    depth = "(one) => { let found = 0; for (let at = one; (at = at.parentElement.closest('.lineage ul')); ) found += 1; return found }"
    tree = page.run(
        f"[...document.querySelectorAll('.lineage .node')].map((one) => [({depth})(one), one.querySelector('b').innerText])"
    )
    assert tree == [[0, "sage"], [1, "poems"], [2, "poems.txt"], [1, "tok"]]


# -- for everybody -----------------------------------------------------------------------------------------------------------------


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


def test_the_browsers_language_decides_at_first(browser, fake, address):
    page = browser.page()
    page.speaks("zh-TW")
    page.go(address)
    page.sees("训练", ".nav")
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
    page.until(f"document.querySelector('#view') && {ground} === {json.dumps(light)}")


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
    sideways = """[document.documentElement.scrollWidth, document.querySelector('main').scrollWidth, document.querySelector('.scroller, .page').scrollWidth]"""
    assert max(page.run(sideways)) <= 375
    page.click(".tool", "Side by side")
    assert max(page.run(sideways)) <= 375
    page.click(".tool", "Settings")
    page.click(".panel button", "Close")
    for view, words in (("engine", "sage-134m"), ("runs", "first"), ("artefacts", "sage")):
        page.click(".nav a", view.capitalize())
        page.sees(words, "main .page")
        assert max(page.run(sideways)) <= 375


def test_everything_is_reached_by_the_keyboard_and_has_a_name(page, fake):
    ask(page, "one")
    answered(page)
    page.run("document.querySelector('.skip').focus()")
    seen: list[str] = []
    for step in range(40):
        if step:
            page.press("Tab")
        name = page.run("(() => {const one = document.activeElement; return one === document.body ? '' :"
                        "(one.getAttribute('aria-label') || one.labels?.[0]?.innerText || one.innerText || one.title || '?').trim()})()")  # fmt: skip
        if seen and name in ("", seen[0]):
            break
        seen.append(name.split("\n")[0])
        outline = page.run("(() => {const one = document.activeElement; const box = one.closest('.composer-box');"
                           "return one.className === 'composer-text' ? getComputedStyle(box).borderColor : getComputedStyle(one).outlineStyle})()")  # fmt: skip
        assert outline != "none", name
    assert "?" not in seen
    order = ["Skip to content", "Chat", "Engine", "Runs", "Artefacts", "Model", "Side by side", "New", "Export", "Settings", "Edit", "Copy", "Tokens",
             "Again", "Your message", "Send"]  # fmt: skip
    assert [name for name in seen if name in order] == order
    names = page.run("[...document.querySelectorAll('button, a, input, select, textarea')].filter((one) => one.getClientRects().length &&"
                     "!(one.getAttribute('aria-label') || one.innerText.trim() || one.labels?.length || one.title)).map((one) => one.className)")  # fmt: skip
    assert names == []


def test_motion_is_left_out_where_it_is_not_wanted(page, fake):
    fake.pause_s = 0.3
    page.prefers(reduced_motion="reduce")
    ask(page, "one")
    page.until("!!document.querySelector('.pulse')")
    assert page.run("getComputedStyle(document.querySelector('.pulse')).animationName") == "none"


# -- with the real server ----------------------------------------------------------------------------------------------------------


def open_studio(browser: Browser, address: str) -> Page:
    page = browser.page()
    page.speaks("en-GB")
    page.go(address)
    return page


def test_the_real_server_answers_the_studio(browser, live):
    page = open_studio(browser, live.url)
    page.click(".tool", "Settings")
    for name, value in {"temperature": "0", "max_tokens": "24"}.items():
        page.click(f"input[aria-describedby=help-{name}]")
        page.write(value)
    page.click(".panel button", "Close")
    ask(page, "Hi")
    answered(page)
    chat = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_completion_tokens": 24, "logprobs": True}
    choice = live.post("/v1/chat/completions", {"model": "speaker", **chat}).json()["choices"][0]
    assert len(choice["message"]["content"]) > 5 and page.text(".answer .content").strip() == choice["message"]["content"].strip()
    page.sees("Cut at the greatest number of tokens.", ".foot")
    page.click(".foot button", "Tokens")
    assert page.run("document.querySelectorAll('.strip .token').length") == len(choice["logprobs"]["content"])
    page.click(".strip .byte")
    page.sees("part of ", ".token-panel")
    assert page.run("document.querySelectorAll('.bars li').length") >= 10
    page.click(".nav a", "Engine")
    page.sees("ready", ".badge")
    written = int(page.text(".tile:nth-child(3) .small").split()[0].replace(",", ""))
    assert written >= 48
    page.click(".nav a", "Artefacts")
    page.sees("speaker", ".side-list")
    assert page.complaints() == []
    page.close()


def test_stop_frees_the_row_of_the_real_server(browser, live):
    page = open_studio(browser, live.url)
    page.click(".tool", "Settings")
    page.click("input[aria-describedby=help-temperature]")
    page.write("0")
    ask(page, "Hi")
    page.until("document.querySelector('.answer.writing .content')?.innerText.length > 20")
    page.press("Escape")
    page.sees("Stopped.", ".answer.stopped")
    live.settle(5)
    assert page.complaints() == []
    page.close()


def test_a_base_model_of_the_real_server_goes_on_and_shows_its_tokens(browser, live):
    page = open_studio(browser, live.url)
    page.choose(".picker select", "org/base")
    page.sees("has no chat template", ".notices")
    page.click(".tool", "Settings")
    page.click("input[aria-describedby=help-max_tokens]")
    page.write("7")
    ask(page, "Once")
    answered(page)
    assert page.text(".continuation").startswith("Once")
    page.click(".foot button", "Tokens")
    page.click(".strip .token")
    page.sees("Entropy", ".token-panel")
    assert page.complaints() == []
    page.close()


def test_a_run_folder_is_followed_while_it_grows(browser, live, tmp_path):
    work = tmp_path / "poems.run"
    work.mkdir()
    log = work / "events.jsonl"
    (work / "plan.json").write_text(json.dumps({"plan": {"steps": 40, "reasons": ["narrow is fast"]}, "steps": 40}))

    def tell(**event: Any) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **event}) + "\n")

    for step in range(1, 11):
        tell(kind="step", step=step, tokens=100 * step, loss=5 - step / 10, grad_norm=1.0, lr=0.001, tokens_per_s=50.0, seconds=float(step))
    live.service.runs = tmp_path
    try:
        page = open_studio(browser, f"{live.url}/#/runs")
        page.sees("step 10 of 40", ".detail")
        points = "document.querySelector('.chart .line-a path').getAttribute('d').split('L').length"
        assert page.until(points) == 10
        for step in range(11, 16):
            tell(kind="step", step=step, tokens=100 * step, loss=5 - step / 10, grad_norm=1.0, lr=0.001, tokens_per_s=50.0, seconds=float(step))
        tell(kind="heldout", step=15, tokens=1500, loss=3.75, unit="token", bits_per_byte=1.5, seconds=15.0, documents=2, targets=9)
        tell(kind="sample", step=15, prompt="Once", text=" upon a time")
        tell(kind="warn", text="the text is short")
        page.sees("upon a time", ".timeline", timeout_s=8)
        page.sees("the text is short", ".notes")
        assert page.run(points) == 15
        assert page.run("document.querySelectorAll('.chart .line-b circle').length") == 1
        assert "narrow is fast" in page.run("document.querySelector('[data-name=plan]').textContent")
        assert page.complaints() == []
        page.close()
    finally:
        live.service.runs = None
