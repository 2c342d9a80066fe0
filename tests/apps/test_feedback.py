"""Collected judgements: none is lost, nobody sees who wrote what, and the data set says what most people said."""

import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from danlu.apps.feedback import dataset
from danlu.apps.feedback.collection import CHOICES, Answer, Collection, Pair, check_annotator
from danlu.apps.feedback.outcome import VERDICTS, agreement, figures, outcomes
from danlu.apps.feedback.prompts import read_prompts
from danlu.core.artifact import open_artifact, publish
from danlu.core.errors import BadInput, DamagedArtifact, NotAnArtifact, WorkFolderMismatch
from danlu.core.settings import Settings
from danlu.data.forms import FORMS
from danlu.data.shards import read_documents
from danlu.metrics.agreement import cohen_kappa, krippendorff_alpha


def pair(number, one="yes", two="no", models=("old", "new")):
    asked = [{"role": "user", "content": f"Question {number}?"}]
    answers = (Answer(f"{one} {number}", models[0], 1), Answer(f"{two} {number}", models[1], 2))
    return Pair(f"{number:06}", asked, answers, "asked.txt", number)


def collection(folder: Path, pairs=7, overlap=0.5, seed=3, **more) -> Collection:
    found = Collection.begin(folder, {"seed": seed, "overlap": overlap, **more})
    for number in range(len(found.pairs()) + 1, pairs + 1):
        found.add(pair(number))
    return found


def say(found, number, annotator, vote, reason=""):
    """A judgement by what is meant: the pair's first answer 0, its second 1, or a choice."""
    order = found.order(f"{number:06}", annotator)
    choice = ("first", "second")[order.index(vote)] if vote in (0, 1) else vote
    return found.judge(f"{number:06}", annotator, choice, reason, seconds=2.5)


def test_who_judges_what(tmp_path):
    """Shared pairs go to everybody, the others to one; a skipped pair stays open for others."""
    found = collection(tmp_path, pairs=20)
    shared = {one.id for one in found.pairs() if found.shared(one.id)}
    assert 0 < len(shared) < 20
    seen = {"ann": [], "bob": []}
    while question := found.next("ann"):
        seen["ann"].append(question.pair.id)
        found.judge(question.pair.id, "ann", "skip" if len(seen["ann"]) == 3 else "first")
    while question := found.next("bob"):
        seen["bob"].append(question.pair.id)
        found.judge(question.pair.id, "bob", "tie")
    assert seen["ann"] == [one.id for one in found.pairs()]
    assert set(seen["bob"]) == shared | {seen["ann"][2]}
    assert found.progress("bob") == {"pairs": 20, "judged": 20, "yours": len(seen["bob"])}


def test_pairs_that_others_look_at_are_passed_over_unless_shared(tmp_path):
    found = collection(tmp_path, overlap=0.0)
    assert found.next("ann", held={"000001", "000002"}).pair.id == "000003"
    everybodys = collection(tmp_path / "shared", overlap=1.0)
    assert everybodys.next("ann", held={"000001"}).pair.id == "000001"


def test_the_order_is_a_coin_for_each_pair_and_annotator_and_is_recorded(tmp_path):
    found = collection(tmp_path, pairs=200)
    orders = [found.order(one.id, "ann") for one in found.pairs()]
    heads = orders.count((0, 1))
    assert abs(heads - 100) < 4 * math.sqrt(50) and orders == [found.order(one.id, "ann") for one in found.pairs()]
    assert orders != [found.order(one.id, "bob") for one in found.pairs()]
    question = found.next("ann")
    assert question.texts == tuple(question.pair.answers[at].text for at in question.order)
    judged = found.judge(question.pair.id, "ann", "second")
    assert judged.order == question.order and judged.winner == question.order[1]


def test_the_last_word_holds_and_may_be_taken_back(tmp_path):
    found = collection(tmp_path)
    assert found.undo("ann") is None
    say(found, 1, "ann", 0)
    say(found, 2, "ann", 0)
    say(found, 1, "ann", 1, "on second thought")
    assert [(one.pair, one.winner) for one in found.judgements()] == [("000002", 0), ("000001", 1)]
    say(found, 3, "bob", 0)
    assert found.undo("ann").pair.id == "000001" and found.next("ann").pair.id == "000001"
    assert found.undo("ann").pair.id == "000002" and found.undo("ann") is None
    assert [one.annotator for one in Collection(tmp_path).judgements()] == ["bob"]


def judge_for_ever(folder, annotator, said):
    found = Collection(folder)
    for number in range(1, 10_000):
        found.judge(f"{1 + number % 7:06}", annotator, CHOICES[number % 5], str(number))
        said.value = number


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    collection(tmp_path)
    context = multiprocessing.get_context("spawn")
    said = [context.Value("i", 0), context.Value("i", 0)]
    writers = [context.Process(target=judge_for_ever, args=(tmp_path, f"a{at}", said[at])) for at in range(2)]
    for writer in writers:
        writer.start()
    until = time.monotonic() + 30
    while min(one.value for one in said) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    lines = [json.loads(line) for line in (tmp_path / "judgements.jsonl").read_bytes().splitlines()]
    for at in range(2):
        numbers = [int(line["judged"]["reason"]) for line in lines if line["judged"]["annotator"] == f"a{at}"]
        assert numbers == list(range(1, len(numbers) + 1)) and said[at].value <= len(numbers) <= said[at].value + 1
        assert len(numbers) >= 20


def test_half_a_line_is_dropped_and_a_damaged_one_is_told(tmp_path):
    found = collection(tmp_path)
    say(found, 1, "ann", 0)
    with open(tmp_path / "judgements.jsonl", "ab") as file:
        file.write(b'{"judged": {"pair": "0000')
    assert len(Collection(tmp_path).judgements()) == 1
    say(found, 2, "ann", 1)
    assert len(found.judgements()) == len(Collection(tmp_path).judgements()) == 2
    (tmp_path / "judgements.jsonl").write_text("no json\n")
    damaged = Collection(tmp_path)
    for _ in range(2):  # it is not passed over when somebody asks again
        with pytest.raises(DamagedArtifact, match=r"judgements.jsonl cannot be read"):
            damaged.judgements()


def test_two_programs_see_one_another(tmp_path):
    one, two = collection(tmp_path, overlap=0.0), Collection(tmp_path)
    say(one, 1, "ann", 0)
    assert two.next("bob").pair.id == "000002"
    two.add(pair(8))
    assert len(one.pairs()) == 8


def test_what_is_refused(tmp_path):
    with pytest.raises(NotAnArtifact, match="--prepare"):
        Collection(tmp_path / "nothing")
    found = collection(tmp_path, models=["a"])
    with pytest.raises(WorkFolderMismatch, match=r"models: \['a'\] there, \['b'\] now"):
        collection(tmp_path, models=["b"])
    refused = [({"choice": "third"}, "no choice"), ({"pair": "9"}, "no pair '9'"), ({"reason": "x" * 2001}, "2001 characters")]
    for wrong, words in refused:
        with pytest.raises(BadInput, match=words):
            found.judge(**{"pair": "000001", "annotator": "ann", "choice": "first", **wrong})
    for name in ("", " ann", "a\nb", "x" * 65, "\u202e\x00"):
        with pytest.raises(BadInput, match="1 to 64 characters"):
            check_annotator(name)
    check_annotator("安妮 B.")
    assert found.judgements() == []


def judged(folder):
    """Seven pairs and a pair of equal answers, with one verdict each."""
    found = collection(folder)
    found.add(pair(8, "same", "same"))
    for annotator in ("ann", "bob", "cy"):
        say(found, 1, annotator, 1 if annotator == "cy" else 0, f"{annotator} says so")
        say(found, 2, annotator, "tie" if annotator != "ann" else 1)
        say(found, 3, annotator, "bad")
        say(found, 5, annotator, "skip")
    say(found, 4, "ann", 0)
    say(found, 4, "bob", 1)
    say(found, 6, "bob", 1, "shorter")
    return found


def test_verdicts_are_what_most_people_said(tmp_path):
    found = outcomes(judged(tmp_path))
    assert [each.verdict for each in found] == ["preferred", "tie", "both bad", "disagreed", "skipped", "preferred", "not judged",
                                                "same answers"]  # fmt: skip
    assert [each.winner for each in found] == [0, None, None, None, None, 1, None, None]
    assert [one.annotator for one in found[0].supporters] == ["ann", "bob"]
    assert set(figures(found)["verdicts"]) == set(VERDICTS) and sum(figures(found)["verdicts"].values()) == 8


def test_statistics_are_those_of_the_metrics(tmp_path):
    found = outcomes(judged(tmp_path))
    votes = {"ann": ["0", "1", "bad", "0"], "bob": ["0", "tie", "bad", "1"], "cy": ["1", "tie", "bad", None]}
    told = agreement(found)
    assert told["pairs"] == 4
    assert told["krippendorff_alpha"] == pytest.approx(krippendorff_alpha(list(zip(*votes.values(), strict=True))), abs=1e-4)
    kappas = {tuple(one["annotators"]): one["kappa"] for one in told["cohen_kappa"]}
    assert kappas["ann", "bob"] == pytest.approx(cohen_kappa(votes["ann"], votes["bob"]), abs=1e-4)
    assert kappas["ann", "cy"] == pytest.approx(cohen_kappa(votes["ann"][:3], votes["cy"][:3]), abs=1e-4)
    every = figures(found)
    assert every["models"] == {"names": ["old", "new"], "ties": 2,
                               "second_wins": {"hits": 1, "trials": 2, "share": 0.5, "low": 0.0945, "high": 0.9055}}  # fmt: skip
    assert every["longer_wins"]["hits"] == 1  # "yes 1" over "no 1", then "no 6" over "yes 6"
    assert every["annotators"]["bob"]["median_seconds"] == 2.5 and every["annotators"]["cy"]["skip"] == 1
    assert every["first_shown_wins"]["trials"] == 7


def test_somebody_who_always_takes_the_first_is_seen(tmp_path):
    found = collection(tmp_path, pairs=40, overlap=1.0)
    while question := found.next("lazy"):
        found.judge(question.pair.id, "lazy", "first")
    told = figures(outcomes(found))["first_shown_wins"]
    assert told["share"] == 1.0 and told["low"] > 0.9
    assert 0.2 < figures(outcomes(found))["models"]["second_wins"]["share"] < 0.8


class Made(Settings):
    """Stands for the stage's settings."""


def test_the_data_set_is_one_of_preferences_and_its_columns_add_up(tmp_path):
    found = outcomes(judged(tmp_path / "kept"))
    with publish(tmp_path / "out", kind="dataset", stage="feedback", settings=Made()) as draft:
        written = dataset.write(draft.path, found, holdout=0.0, seed=0, licence="CC0-1.0")
        draft.ledger = written.ledger.as_dict()
    made = open_artifact(tmp_path / "out", "dataset", verify=True)
    rows = list(read_documents(made.path))
    assert [json.loads(row.sample["chosen"])[0]["content"] for row in rows] == ["yes 1", "no 6"]
    assert [json.loads(row.sample["rejected"])[0]["content"] for row in rows] == ["no 1", "yes 6"]
    assert [row.sample["annotator"] for row in rows] == ["ann, bob", "bob"]
    assert [row.sample["reason"] for row in rows] == ["ann says so\nbob says so", "shorter"]
    assert rows[0].line == 1 and rows[0].licence == "CC0-1.0" and rows[0].sample["tools"] == ""
    record = {name: json.loads(rows[0].sample[name]) for name in ("prompt", "chosen", "rejected")}
    text, sample = FORMS.build(FORMS["preference"].Config()).take(record)  # what `danlu prepare` makes of the same
    assert text == rows[0].text and all(sample[name] == rows[0].sample[name] for name in (*record, "tools"))
    total = made.lineage.ledger["total"]["all"]
    assert total["read"]["documents"] == 8 and total["train"]["documents"] == 2
    assert total["dropped: disagreed"]["documents"] == total["dropped: same answers"]["documents"] == 1
    kept = [json.loads(line) for line in (made.path / "judgements.jsonl").read_text().splitlines()]
    assert len(kept) == 8 and kept[0]["answers"][0]["model"] == "old" and len(kept[0]["judgements"]) == 3
    assert "Krippendorff" in (made.path / "README.md").read_text() and "ann says so" in (made.path / "report.html").read_text()


def test_held_out_prompts_are_whole_and_something_is_left_to_learn_from(tmp_path):
    found = collection(tmp_path / "kept", pairs=30, overlap=0.0)
    for number in range(1, 31):
        say(found, number, "ann", number % 2)
    for holdout, name in ((0.3, "some"), (0.999, "nearly all")):
        folder = tmp_path / name
        folder.mkdir()
        ledger = dataset.write(folder, outcomes(found), holdout, 1, "unknown").ledger
        assert ledger.get("train")[0] + ledger.get("validation")[0] == 30
        assert ledger.get("train")[0] > 0
    assert 3 <= len(list(read_documents(tmp_path / "some", "validation"))) <= 16


def test_prompts_are_read_from_lines_records_and_data_sets(tmp_path):
    (tmp_path / "asked.txt").write_text("One?\n\n二？\nOne?\n", encoding="utf-8")
    assert [(one.messages[0]["content"], one.line) for one in read_prompts(tmp_path / "asked.txt")] == [("One?", 1), ("二？", 3)]
    records = [{"prompt": "One?"}, {"messages": [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "2"}]},
               {"instruction": "Add", "input": "1 2"}]  # fmt: skip
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert [one.messages for one in read_prompts(tmp_path / "asked.jsonl")] == [
        [{"role": "user", "content": "One?"}], [{"role": "user", "content": "Two?"}], [{"role": "user", "content": "Add\n\n1 2"}],
    ]  # fmt: skip
    found = outcomes(judged(tmp_path / "kept"))
    (tmp_path / "data").mkdir()
    dataset.write(tmp_path / "data", found, 0.0, 0, "unknown")
    assert [one.messages[0]["content"] for one in read_prompts(tmp_path / "data")] == ["Question 1?", "Question 6?"]
    (tmp_path / "bad.jsonl").write_text('{"prompt": "One?"}\n{"nothing": 1}\n')
    for place, words in (("bad.jsonl", r"bad.jsonl:2"), ("missing.txt", "does not exist")):
        with pytest.raises(BadInput, match=words):
            read_prompts(tmp_path / place)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(BadInput, match="holds no prompt"):
        read_prompts(tmp_path / "empty.txt")
