"""The chat in a real browser: asking, stopping, asking again, two models, settings, what goes wrong, export, the key."""

import json
import time
from pathlib import Path

import pytest
from tests.server.fake_backend import ANSWER, KEY
from tests.server.studio.asking import answered, ask


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
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7, "stop": ["END", "###"],
        "max_completion_tokens": 33,
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
    page.sees("without chat template", ".notices")
    ask(page, "Once upon")
    answered(page)
    assert fake.bodies[0]["prompt"] == "Once upon" and "messages" not in fake.bodies[0]
    assert fake.bodies[0]["max_tokens"] == 98  # all that the context of 100 has room for
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
