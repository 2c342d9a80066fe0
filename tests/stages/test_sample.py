"""A model's own answers become a dataset: the best, the good, all, or pairs; nothing is lost, and a killed run goes on."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from tests.train.small_policy import documents, model, prompt, sums, teach, tokenizer

from danlu.core.artifact import open_artifact
from danlu.core.errors import BadInput, BadSettings, Interrupted, NoUsableText, OutputExists, WorkFolderMismatch
from danlu.core.settings import load
from danlu.data.shards import ShardWriter, read_documents, schema
from danlu.engine.live import LiveEngine
from danlu.metrics.pass_at_k import best_of
from danlu.models.weights import save_model
from danlu.stages.sample import Sample, sample
from danlu.train.choosing import REASONS, Rule, choose
from danlu.train.harvest import Answer


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model that knows some sums, and prompts of them."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("sample")
    made = teach(model(24, 1, seed=3), 60, sums(3), rate=1e-2)
    (folder / "model").mkdir()
    save_model(made, folder / "model")
    tokenizer().save(folder / "model")
    write_dataset(folder / "sums", documents(sums(3)), {"prompt": "text", "answer": "text", "tools": "text"}, pa)
    return folder


def write_dataset(out, rows, columns, pa):
    from danlu.core.artifact import publish
    from danlu.core.settings import Settings

    with publish(out, kind="dataset", stage="prepare", settings=Settings()) as draft:
        for split, part in (("train", rows[3:]), ("validation", rows[:3])):
            writer = ShardWriter(draft.path, split, columns)
            keys = ("id", "source", "path", "line", "text", "licence", "language")
            writer.write(pa.Table.from_pylist([{key: getattr(one, key) for key in keys} | {"signals": []} | dict(one.sample)
                                               for one in part], schema(columns)))  # fmt: skip
            writer.close()
        draft.sources = ["made"]


def settings(place, out, **changes):
    base = {"model": place / "model", "dataset": place / "sums", "out": out, "rewards": ["exact"], "answers": 4,
            "ask": {"max_tokens": 4}, "batch": 5}  # fmt: skip
    return load(Sample, {**base, **changes})


def rows(out, split="train"):
    return list(read_documents(out, split))


def test_the_best_answer_of_each_prompt_stays_and_the_books_add_up(place, tmp_path):
    made = sample(settings(place, tmp_path / "best"))
    record = open_artifact(tmp_path / "best", "dataset", verify=True).lineage
    assert made.id == record.id and {one.role for one in record.inputs} == {"model", "dataset"} and record.sources == ("made",)
    ledger, figures = record.ledger, record.metrics
    for part in ledger["prompts"].values():
        assert part["read"] == part["overlong"] + part["nothing stays"] + part["kept"]
    for part in ledger["answers"].values():
        assert part["written"] == part["kept"] + sum(part[reason] for reason in REASONS)
    assert ledger["prompts"]["train"]["read"] == 13 and ledger["answers"]["train"]["written"] == 52
    assert ledger["documents"]["train"] == len(rows(tmp_path / "best")) == ledger["prompts"]["train"]["kept"]
    assert figures["best_of_1"] == pytest.approx(figures["reward"]) and figures["best_of_4"] >= figures["best_of_2"]
    lines = [json.loads(line) for path in sorted((tmp_path / "best.run").glob("answers-*/train-*.jsonl"))
             for line in path.read_text("utf-8").splitlines()]  # fmt: skip
    kept = {one.id: one for one in rows(tmp_path / "best")}
    for source, answers in zip(read_documents(place / "sums"), lines, strict=True):
        chosen = choose([Answer(**one) for one in answers], Rule("best")).kept
        assert (f"{source.id}-0" in kept) == bool(chosen)
        if chosen:
            said = json.loads(kept[f"{source.id}-0"].sample["messages"])
            assert said == [*json.loads(source.sample["prompt"]), {"role": "assistant", "content": chosen[0].text}]
            assert kept[f"{source.id}-0"].signals["reward"] == max(one["reward"] for one in answers if one["ended"])
    every = lines + [json.loads(line) for path in sorted((tmp_path / "best.run").glob("answers-*/validation-*.jsonl"))
                     for line in path.read_text("utf-8").splitlines()]  # fmt: skip
    curve = sum(best_of([one["reward"] for one in answers], 2) for answers in every) / len(every)
    assert figures["best_of_2"] == pytest.approx(curve)
    assert all((tmp_path / "best" / name).is_file() for name in ("README.md", "report.html", "report.json", "ledger.json"))


def test_what_stays_can_be_learned_from(place, tmp_path):
    from danlu.objectives import OBJECTIVES
    from danlu.objectives.frame import Frame

    sample(settings(place, tmp_path / "good", keep="above", least=1.0))
    sample(settings(place, tmp_path / "pairs", keep="pairs", cut="keep"))
    frame = Frame(tokenizer(), False, 64, False)
    sft, dpo = (OBJECTIVES.build(OBJECTIVES[name].Config(), tokenizer()) for name in ("sft", "dpo"))
    good, pairs = rows(tmp_path / "good"), rows(tmp_path / "pairs")
    assert good and all(len(sft.encode(one, frame, "raise")) == 1 and one.signals["reward"] == 1.0 for one in good)
    right = {json.dumps(prompt(a, b)): str(a + b) for a, b in sums(3)}
    for one in good:
        messages = json.loads(one.sample["messages"])
        assert messages[-1]["content"] == right[json.dumps(messages[:-1])]
    assert len({one.sample["messages"] for one in good}) == len(good)
    assert pairs and all(len(dpo.encode(one, frame, "raise")) == 1 for one in pairs)
    assert all(one.signals["reward_chosen"] > one.signals["reward_rejected"] for one in pairs)


def test_all_answers_without_a_reward_and_chats_as_prompts(place, tmp_path):
    sample(settings(place, tmp_path / "all", rewards=[], keep="all", answers=2))
    again = sample(settings(place, tmp_path / "again", dataset=tmp_path / "all", keep="all", answers=1, ask={
        "max_tokens": 4, "temperature": 0}))  # fmt: skip
    first, second = rows(tmp_path / "all"), rows(tmp_path / "again")
    assert {json.dumps(json.loads(one.sample["messages"])[:-1]) for one in second} <= {
        json.dumps(json.loads(one.sample["messages"])[:-1]) for one in first}  # fmt: skip
    assert again.lineage.metrics["reward"] <= 1.0  # the chat's last answer was the known one


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_dataset(place, tmp_path, monkeypatch):
    whole = sample(settings(place, tmp_path / "whole"))
    write, calls = LiveEngine.write, Counter()

    def dies(self, *parts, **more):
        calls["before"] += 1
        if calls["before"] == 3:
            raise KeyboardInterrupt
        return write(self, *parts, **more)

    monkeypatch.setattr(LiveEngine, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        sample(settings(place, tmp_path / "killed"))
    assert not (tmp_path / "killed").exists() and len(list((tmp_path / "killed.run").glob("answers-*/*"))) == 2
    with pytest.raises(WorkFolderMismatch, match="seed"):
        sample(settings(place, tmp_path / "killed", seed=1))
    calls["before"] = 10
    assert sample(settings(place, tmp_path / "killed")).id == whole.id
    assert calls["before"] == 12  # four parts in all, of which two were there
    with pytest.raises(OutputExists):
        sample(settings(place, tmp_path / "killed"))
    other = sample(settings(place, tmp_path / "killed", seed=1, overwrite=True))
    assert other.id != whole.id and calls["before"] == 16  # answers of other settings are not taken


def test_a_wish_to_stop_is_heard_between_two_parts(place, tmp_path, monkeypatch):
    import signal

    write = LiveEngine.write

    def stops(self, *parts, **more):
        signal.raise_signal(signal.SIGINT)
        return write(self, *parts, **more)

    monkeypatch.setattr(LiveEngine, "write", stops)
    with pytest.raises(Interrupted, match="after 5 of 16 prompts"):
        sample(settings(place, tmp_path / "stopped"))


@pytest.mark.parametrize(("changes", "error", "said"), [
    ({"rewards": []}, BadSettings, "goes by what answers are worth"), ({"keep": "above"}, BadSettings, "above what"),
    ({"keep": "pairs", "answers": 1}, BadSettings, "two answers"),
    ({"ask": {"temperature": 0}}, BadSettings, "always writes the same"),
    ({"ask": {"max_tokens": 64}}, BadSettings, "no room for a prompt"),
    ({"ask": {"max_tokens": 60}}, BadInput, "leave room for the answer"),
    ({"rewards": ["code:sandbox=rlimits"]}, BadInput, "sums.jsonl:4: the reward code"),
    ({"least": 9.0}, NoUsableText, "none stays"),
    ({"ask": {"max_tokens": 60}, "overlong": "drop"}, NoUsableText, "there were none"),
])  # fmt: skip
def test_what_cannot_work_is_said_and_nothing_is_written(place, tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        sample(settings(place, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_models_and_datasets_that_do_not_fit_are_refused(place, tmp_path):
    import pyarrow as pa

    bare = tmp_path / "bare"
    bare.mkdir()
    save_model(model(16, 1), bare)
    from tests.tiny import tiny_tokenizer

    tiny_tokenizer().save(bare)
    with pytest.raises(BadSettings, match="no chat template"):
        sample(settings(place, tmp_path / "out", model=bare))
    labelled = [replace(one, sample={"label": "x"}) for one in documents(sums(3))]
    write_dataset(tmp_path / "labels", labelled, {"label": "text"}, pa)
    with pytest.raises(BadSettings, match="nothing to answer"):
        sample(settings(place, tmp_path / "out", dataset=tmp_path / "labels"))


def answer(text, reward, ended=True):
    return Answer(text, 1, ended, reward)


@pytest.mark.parametrize(("rule", "kept", "dropped"), [
    (Rule("best"), "b", {"cut": 1, "empty": 1, "repeated": 1, "not the best": 2}),
    (Rule("best", cut=True), "d", {"empty": 1, "repeated": 1, "not the best": 3}),
    (Rule("above", least=1.0), "ba", {"cut": 1, "empty": 1, "repeated": 1, "below": 1}),
    (Rule("above", least=1.0, most=1), "b", {"cut": 1, "empty": 1, "repeated": 1, "below": 1, "not the best": 1}),
    (Rule("all"), "bac", {"cut": 1, "empty": 1, "repeated": 1}),
    (Rule("best", least=9.0), "", {"cut": 1, "empty": 1, "repeated": 1, "below": 3}),
    (Rule("pairs"), "bc", {"cut": 1, "empty": 1, "repeated": 1, "no pair": 1}),
    (Rule("pairs", margin=2.0), "", {"cut": 1, "empty": 1, "repeated": 1, "no pair": 3}),
    (Rule("pairs", least=3.0), "", {"cut": 1, "empty": 1, "repeated": 1, "no pair": 3}),
])  # fmt: skip
def test_what_stays_and_why_the_rest_does_not(rule, kept, dropped):
    said = [
        answer("a", 1.0),
        answer(" ", 5.0),
        answer("b", 2.0),
        answer("a", 1.0),
        answer("c", 0.0),
        answer("d", 9.0, ended=False),
    ]
    found = choose(said, rule)
    assert "".join(one.text for one in found.kept) == kept and dict(found.dropped) == dropped
    assert len(found.kept) + found.dropped.total() == len(said)
