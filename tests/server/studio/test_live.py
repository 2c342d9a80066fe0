"""The studio with the real server and a real engine behind it."""

import json
import time
from typing import Any

from tests.server.browser import Browser, Page
from tests.server.running import KEY, keyed, made_service, serving
from tests.server.studio.asking import answered, ask

from danlu.engine.opening import Serving
from danlu.server.models import Served


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
    page.sees("without chat template", ".notices")
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
        tell(
            kind="step",
            step=step,
            tokens=100 * step,
            loss=5 - step / 10,
            grad_norm=1.0,
            lr=0.001,
            tokens_per_s=50.0,
            seconds=float(step),
        )
    live.service.runs = tmp_path
    try:
        page = open_studio(browser, f"{live.url}/#/runs")
        page.sees("step 10 of 40", ".detail")
        points = "document.querySelector('.chart .line-a path').getAttribute('d').split('L').length"
        assert page.until(points) == 10
        for step in range(11, 16):
            tell(
                kind="step",
                step=step,
                tokens=100 * step,
                loss=5 - step / 10,
                grad_norm=1.0,
                lr=0.001,
                tokens_per_s=50.0,
                seconds=float(step),
            )
        tell(
            kind="heldout", step=15, tokens=1500, loss=3.75, unit="token", bits_per_byte=1.5, seconds=15.0, documents=2, targets=9
        )
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


def test_a_server_with_keys_gives_the_page_to_all_and_answers_to_few(browser, folders):
    service = made_service(Served("speaker", folders / "speaker"), serving=Serving(rows=2, cache_tokens=4096))
    with serving(service, keyed(), KEY) as running:
        page = browser.page()
        page.speaks("en-GB")
        page.call("Page.navigate", url=running.url)
        page.until("!!document.querySelector('dialog[open] input')")
        page.write(KEY)
        page.press("Enter")
        page.until("document.querySelector('.picker select')?.options.length === 1")
        ask(page, "Hi")
        page.until("document.querySelector('.answer .content')?.innerText.length > 5")
        page.press("Escape")
        assert all("401" in complaint for complaint in page.complaints())
        page.close()
