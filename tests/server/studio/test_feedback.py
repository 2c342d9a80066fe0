"""The page of feedback before the real API: keys and clicks become judgements, and nothing typed in a reason judges."""

import pytest
from tests.apps.test_feedback import collection, pair
from tests.server.running import serving
from tests.server.studio.test_everybody import FAINT, NAMELESS
from tests.server.test_feedback_api import unopened

from danlu.apps.feedback.collection import Answer, Collection, Pair
from danlu.server.feedback_api import Desk


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "prefs.run"


@pytest.fixture
def desk(browser, folder):
    """The page of a server that collects feedback, for somebody who gave a name."""
    collection(folder, pairs=4, overlap=0.0)
    with serving(unopened(Desk(Collection(folder)))) as running:
        page = browser.page()
        page.speaks("en-GB")
        page.go(f"{running.url}/#/feedback")
        page.click("#annotator")
        page.write("ann")
        page.press("Enter")
        page.sees("Which answer is better?", "h2")
        yield page
        complaints = page.complaints()
        page.close()
    assert complaints == []


def said(folder):
    return [(one.pair, one.choice, one.reason) for one in Collection(folder).judgements()]


def test_keys_judge_one_pair_after_another(desk, folder):
    shown = Collection(folder).question("000001", "ann").texts
    assert desk.run("[...document.querySelectorAll('.rivals .content')].map((one) => one.innerText)") == list(shown)
    for number, key in enumerate(("1", "=", "0", "2"), 1):
        desk.sees(f"Question {number}?", ".judge-prompt")
        desk.press(key)
    desk.sees("Nothing is left for you to judge.")
    assert said(folder) == [(f"00000{at}", choice, "") for at, choice in enumerate(("first", "tie", "bad", "second"), 1)]
    assert all(one.seconds is not None and one.seconds < 30 for one in Collection(folder).judgements())
    desk.press("u")
    desk.sees("Question 4?", ".judge-prompt")
    assert desk.text(".choices [aria-pressed=true]").endswith("The second")
    desk.press("s")
    desk.sees("Nothing is left for you to judge.")
    assert said(folder)[-1] == ("000004", "skip", "")


def test_a_reason_is_kept_and_its_letters_are_no_choices(desk, folder):
    desk.click("#reason")
    desk.write("1 is shorter = kinder")
    desk.press("2")
    desk.press("s")
    desk.sees("Question 1?", ".judge-prompt")
    assert said(folder) == []
    desk.click(".choices button", "The first")
    desk.sees("Question 2?", ".judge-prompt")
    desk.sees("1 of 4 judged, 1 by you", ".judge")
    ((pair_id, choice, reason),) = said(folder)
    assert (pair_id, choice) == ("000001", "first") and reason.startswith("1 is shorter = kinder")
    desk.press("u")
    desk.until("document.querySelector('#reason').value.startsWith('1 is shorter')")
    assert said(folder) == []


def test_the_new_question_has_the_focus_and_everything_a_name(desk):
    desk.press("1")
    desk.sees("Question 2?", ".judge-prompt")
    desk.until("document.activeElement.tagName === 'H2'")
    desk.until("document.querySelector('[role=status]').textContent === 'Kept. The next pair.'")
    names = []
    for _ in range(7):
        desk.press("Tab")
        names.append(desk.run("(document.activeElement.labels?.[0] ?? document.activeElement).innerText.split('\\n').at(-1)"))
    assert names == ["The first", "Both as good", "Both bad", "The second", "Skip", "Undo", "Why (may stay empty)"]
    assert desk.run(NAMELESS) == []


def test_hostile_answers_stay_text(browser, folder):
    nasty = "<img src=x onerror=alert(1)><script>alert(2)</script> **bold**"
    found = Collection.begin(folder, {"seed": 0, "overlap": 0})
    asked = [{"role": "user", "content": nasty}]
    found.add(Pair("000001", asked, (Answer(nasty, "a", 1), Answer("", "b", 2)), nasty, 1))
    with serving(unopened(Desk(Collection(folder)))) as running:
        page = browser.page()
        page.speaks("en-GB")
        page.go(f"{running.url}/#/feedback")
        page.click("#annotator")
        page.write("<b>ann</b>")
        page.press("Enter")
        page.sees("<img src=x onerror=alert(1)>", ".judge-prompt")
        page.sees("<script>alert(2)</script>", ".rivals")
        page.sees("This answer is empty.", ".rivals")
        page.sees("you are <b>ann</b>", ".judge")
        assert page.run("document.querySelectorAll('#view img, #view script').length") == 0
        assert page.complaints() == []
        page.close()


def test_a_server_without_a_folder_says_how_to_begin(page):
    page.run("location.hash = '#/feedback'")
    page.sees("--feedback OUT.run", ".judging")


def test_a_failure_is_shown_and_the_pair_stays(desk, folder):
    (folder / "judgements.jsonl").write_text("damaged\n")
    desk.press("1")
    desk.until("!document.querySelector('.banner').hidden")
    assert "Question 1?" in desk.text(".judge-prompt")
    (folder / "judgements.jsonl").unlink()
    desk.complaints()
    desk.browser.events.clear()  # the browser notes the refused request
    desk.press("1")
    desk.sees("Question 2?", ".judge-prompt")
    desk.until("document.querySelector('.banner').hidden")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_is_legible_in_both_lights_and_languages_and_on_a_phone(desk, folder, look):
    desk.prefers(color_scheme=look)
    desk.until(f"matchMedia('(prefers-color-scheme: {look})').matches")
    assert desk.run(FAINT) == []
    desk.click(".prefs button", "中文")
    desk.sees("哪个回答更好？", "h2")
    desk.sees("一样好", ".choices")
    assert desk.run(FAINT) == []
    Collection(folder).add(pair(5, "x" * 400))
    desk.size(375, 720, phone=True)
    for number in range(1, 5):
        desk.sees(f"Question {number}?", ".judge-prompt")
        desk.click(".choices button", "跳过")
    desk.sees("xxx", ".rivals")
    assert max(desk.run("['html', 'main', '.page'].map((one) => document.querySelector(one).scrollWidth)")) <= 375
