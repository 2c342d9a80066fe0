"""What the page of feedback asks for: blind, kept before it is acknowledged, one pair for one person unless it is shared."""

import json
from pathlib import Path

import pytest
from tests.apps.test_feedback import collection
from tests.server.running import KEY, keyed, serving

from danlu.apps.feedback.collection import Collection
from danlu.server.feedback_api import Desk
from danlu.server.models import Models, Served
from danlu.server.service import Service


def unopened(feedback=None):
    """A service whose model is still to be opened: judging needs none."""
    return Service(Models([Served("m", Path("m"))]), feedback=feedback)


@pytest.fixture
def asked(tmp_path):
    """A server with seven pairs to judge, all for one person each."""
    collection(tmp_path / "prefs.run", overlap=0.0)
    with serving(unopened(Desk(Collection(tmp_path / "prefs.run")))) as running:
        yield running, tmp_path / "prefs.run"


def ask(running, name):
    return running.get("/v1/danlu/feedback", params={"annotator": name}).json()


def judge(running, name, pair, choice="first", **more):
    return running.post("/v1/danlu/feedback", {"annotator": name, "pair": pair, "choice": choice, **more})


def test_a_question_does_not_tell_whose_the_answers_are(asked):
    running, folder = asked
    told = ask(running, "ann")
    assert told["name"] == "prefs" and told["progress"] == {"pairs": 7, "judged": 0, "yours": 0}
    assert set(told["question"]) == {"pair", "prompt", "answers", "before"}
    assert sorted(told["question"]["answers"]) == ["no 1", "yes 1"]
    assert "old" not in json.dumps(told) and "new" not in json.dumps(told) and str(folder) not in json.dumps(told)
    assert tuple(told["question"]["answers"]) == Collection(folder).question("000001", "ann").texts


def test_a_judgement_is_on_disk_when_it_is_acknowledged_and_the_next_pair_follows(asked):
    running, folder = asked
    told = judge(running, "ann", "000001", "second", reason=" clearer ", seconds=3).json()
    (kept,) = Collection(folder).judgements()
    assert (kept.choice, kept.reason, kept.seconds, kept.annotator) == ("second", "clearer", 3.0, "ann")
    assert told["question"]["pair"] == "000002" and told["progress"] == {"pairs": 7, "judged": 1, "yours": 1}


def test_nobody_is_given_what_somebody_else_looks_at_unless_everybody_shall_judge_it(asked, tmp_path):
    running, _ = asked
    assert [ask(running, name)["question"]["pair"] for name in ("ann", "bob", "ann")] == ["000001", "000002", "000001"]
    collection(tmp_path / "shared.run", overlap=1.0)
    with serving(unopened(Desk(Collection(tmp_path / "shared.run")))) as everybody:
        assert [ask(everybody, name)["question"]["pair"] for name in ("ann", "bob")] == ["000001", "000001"]
        judge(everybody, "ann", "000001")
        assert ask(everybody, "bob")["question"]["pair"] == "000001"


def test_undo_gives_the_pair_back_with_what_was_said(asked):
    running, folder = asked
    judge(running, "ann", "000001", "tie", reason="alike")
    told = running.post("/v1/danlu/feedback/undo", {"annotator": "ann"}).json()
    assert told["question"]["pair"] == "000001" and told["question"]["before"] == {"choice": "tie", "reason": "alike"}
    assert Collection(folder).judgements() == [] and told["progress"]["yours"] == 0
    nothing = running.post("/v1/danlu/feedback/undo", {"annotator": "bob"}).json()
    assert nothing["question"]["before"] is None


def test_what_is_wrong_is_refused_by_name(asked):
    running, folder = asked
    for body, param in (
        ({"annotator": " ann", "pair": "000001", "choice": "first"}, "annotator"),
        ({"annotator": "ann", "pair": "9", "choice": "first"}, "pair"),
        ({"annotator": "ann", "pair": "000001", "choice": "third"}, "choice"),
        ({"annotator": "ann", "pair": "000001", "choice": "first", "seconds": -1}, "seconds"),
        ({"annotator": "ann", "pair": "000001", "choice": "first", "model": "x"}, "model"),
        ({"annotator": "ann", "pair": "000001"}, "choice"),
    ):
        answer = running.post("/v1/danlu/feedback", body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert str(folder) not in answer.text
    assert running.get("/v1/danlu/feedback", params={"annotator": "a\nb"}).status_code == 400
    assert Collection(folder).judgements() == []


def test_without_a_folder_nothing_is_asked_and_a_key_is_needed_as_everywhere():
    with serving(unopened(), keyed(), KEY) as running:
        assert running.get("/v1/danlu/feedback").json() == {"object": "danlu.feedback", "name": None, "progress": None,
                                                            "question": None}  # fmt: skip
        answer = running.post("/v1/danlu/feedback", {"annotator": "ann", "pair": "1", "choice": "skip"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "feedback_off")
        assert running.http.get("/v1/danlu/feedback").status_code == 401
        assert running.http.post("/v1/danlu/feedback", json={}).status_code == 401
