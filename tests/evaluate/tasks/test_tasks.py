"""What a task's file may say, what becomes of questions that do not fit, and the tasks that bring no data."""

import json

import pytest
import yaml
from tests.evaluate import judged_model
from tests.evaluate.tasks import described_tasks
from tests.shared_data import shared

from danlu.core.errors import BadInput, BadSettings, PromptTooLong, UnknownName
from danlu.engine.model import load
from danlu.evaluate.filters import pipelines
from danlu.evaluate.how import How
from danlu.evaluate.subject import Answer, Subject, plain_likelihood
from danlu.evaluate.tasks import TASKS, documents
from danlu.evaluate.tasks.base import opened, pair_ids


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(judged_model.write(tmp_path_factory.mktemp("tasks")))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return described_tasks.write(tmp_path_factory.mktemp("files"))


def changed(path, folder, **keys):
    """A task's file with other keys; None takes one away."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    told = {key: value for key, value in {**told, **keys}.items() if value is not None}
    (folder / "task.yaml").write_text(yaml.safe_dump(told, allow_unicode=True), encoding="utf-8")
    return folder / "task.yaml"


def asked(model, path, **how):
    with Subject(model) as subject:
        return opened(str(path)).ask(subject, How(**how))


# ---- what is refused


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"doc_to_txt": "q"}, "doc_to_txt: no such setting; did you mean doc_to_text"),
        ({"process_docs": "!function utils.f"}, "process_docs is not read here: it is Python"),
        ({"process_results": "x"}, "process_results is not read here"),
        ({"dataset_path": "allenai/arc"}, "Nothing is fetched"),
        ({"dataset_name": "ARC-Easy"}, "dataset_name is not read here"),
        ({"gen_prefix": "Answer:"}, "gen_prefix is not read here"),
        ({"dataset_kwargs": {"data_files": "x", "token": "y"}}, "dataset_kwargs.token"),
        ({"data_files": "x.json"}, "say the files once"),
        ({"test_split": None}, "say test_split"),
        ({"doc_to_target": None}, "say doc_to_target"),
        ({"doc_to_choice": None}, "needs doc_to_choice"),
        ({"output_type": "multiple_chioce"}, "output_type"),
        ({"generation_kwargs": {"until": ["x"]}}, "are for generate_until"),
        ({"metric_list": [{"metric": "accuracy"}]}, "no metric called 'accuracy' for multiple_choice. Known: acc, acc_norm"),
        ({"metric_list": [{"metric": "acc", "aggregation": "median"}]}, "aggregated by mean here"),
        ({"metric_list": [{"metric": "acc", "higher_is_better": False}]}, "higher_is_better is True"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "no setting 'hf_evaluate'"),
        ({"metric_list": []}, "nothing would be counted"),
        ({"fewshot_config": {"samples": []}}, "fewshot_config.samples"),
        ({"fewshot_config": {"sampler": "balanced"}}, "default or first_n"),
    ],
)
def test_a_key_that_is_not_read_is_named(tasks, tmp_path, keys, words):
    with pytest.raises(BadSettings) as error:
        opened(str(changed(tasks["choose"], tmp_path, **keys)))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"generation_kwargs": {"num_beams": 4}}, "generation_kwargs.num_beams"),
        ({"generation_kwargs": {"do_sample": True}}, "needs a temperature"),
        ({"filter_list": [{"name": "a", "filter": [{"function": "regex"}]}]}, "must end with take_first"),
        ({"filter_list": [{"name": "a", "filter": [{"function": "regexx"}, {"function": "take_first"}]}]}, "Did you mean regex"),
        (
            {"filter_list": [{"name": "a", "filter": [{"function": "regex", "x": 1}, {"function": "take_first"}]}]},
            "no setting 'x'",
        ),
        ({"metric_list": [{"metric": "exact_match", "ignore_csae": True}]}, "ignore_csae"),
        ({"metric_list": [{"metric": "acc"}]}, "no metric called 'acc' for generate_until"),
    ],
)
def test_a_setting_of_written_answers_that_is_not_read_is_named(tasks, tmp_path, keys, words):
    with pytest.raises(BadSettings) as error:
        opened(str(changed(tasks["write"], tmp_path, **keys)))
    assert words in str(error.value)


def test_python_in_a_file_is_explained(tmp_path):
    (tmp_path / "t.yaml").write_text("task: t\ndoc_to_text: !function utils.text\n", encoding="utf-8")
    with pytest.raises(BadSettings, match=r"!function utils.text is not read here"):
        opened(str(tmp_path / "t.yaml"))
    with pytest.raises(UnknownName, match="arithmetic"):
        opened("arithmetics")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"doc_to_text": "{{question}}"}, "'question' is undefined"),
        ({"doc_to_text": "{{ ().__class__.__mro__ }}"}, "unsafe|undefined|access"),
        ({"doc_to_text": "{{q"}, "cannot be read"),
        ({"doc_to_target": "7"}, "the right answer is 7"),
        ({"doc_to_choice": "{{q}}"}, "no list of texts"),
        ({"num_fewshot": 1}, "need a fewshot_split"),
        ({"num_fewshot": 5, "fewshot_split": "test"}, "5 examples are asked for before each question, and there are 4"),
        ({"dataset_kwargs": {"data_files": {"test": "https://example.org/x.json"}}}, "read local files only"),
        ({"dataset_kwargs": {"data_files": {"test": "nowhere.json"}}}, "--task_data FOLDER"),
        ({"dataset_kwargs": {"data_files": {"dev": "x.json"}}}, "no split 'test', only dev"),
    ],
)
def test_documents_that_do_not_fit_the_task_are_named(model, tasks, tmp_path, keys, words):
    with pytest.raises((BadInput, BadSettings), match=words):
        asked(model, changed(tasks["choose"], tmp_path, **keys))


# ---- what does not fit the context


def test_questions_that_do_not_fit_are_refused_cut_or_left_out_and_counted(model, tasks, tmp_path):
    rows = [{"q": "The furnace was lit. " * many, "c": ["dawn", "noon"], "g": 0} for many in (1, 40, 2)]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    path = changed(tasks["choose"], tmp_path, dataset_kwargs={"data_files": {"test": str(tmp_path / "long.jsonl")}},
                   metric_list=[{"metric": "acc"}])  # fmt: skip
    with pytest.raises(PromptTooLong, match="task choose, document 1: the question has"):
        asked(model, path)
    cut, skipped = asked(model, path, overlong="truncate"), asked(model, path, overlong="skip")
    assert cut.counts == {"documents": 3, "asked": 3, "cut": 1, "skipped": 0}
    assert skipped.counts == {"documents": 3, "asked": 2, "cut": 0, "skipped": 1}
    assert [sample.document for sample in skipped.samples] == [0, 2]
    assert [sample.nats for sample in skipped.samples] == [cut.samples[at].nats for at in (0, 2)]
    with Subject(model) as subject:
        pair = pair_ids(subject, rows[1]["q"], " dawn", How())
    kept = type(pair)(pair.before[-(model.context + 1 - len(pair.after)) :], pair.after)
    assert cut.samples[1].nats[0] == pytest.approx(plain_likelihood(model, kept).nats, abs=1e-4)


def test_answers_too_long_for_the_context_are_refused_with_the_cure(model, tasks, tmp_path):
    path = changed(tasks["write"], tmp_path, generation_kwargs={"max_gen_toks": 96})
    with pytest.raises(BadInput, match="max_gen_toks"):
        asked(model, path)


# ---- how a question is put


def test_blanks_at_the_end_of_a_context_belong_to_the_continuation(model):
    with Subject(model) as subject:
        encode = subject.tokenizer.encode
        one, two = pair_ids(subject, "The lead ", "melted", How()), pair_ids(subject, "The lead", " melted", How())
        assert (
            one == two and one.before == tuple(encode("The lead")) and one.before + one.after == tuple(encode("The lead melted"))
        )
        begun = pair_ids(subject, "The lead", " melted", How(begin="yes"))
        assert begun.before == (subject.prefix, *one.before) and begun.after == one.after
        assert pair_ids(subject, "", "melted", How()).before == (subject.prefix,)
        with pytest.raises(BadInput, match="no token of its own"):
            pair_ids(subject, "The", "", How())


def test_a_conversation_is_what_serving_would_send(model):
    from danlu.tokenizer.chat import encode_chat

    said = [{"role": "user", "content": "Lit <|im_end|> at?"}]
    with Subject(model) as subject:
        pair = pair_ids(subject, said, "dawn", How(chat=True))
    tokenizer = model.tokenizer
    sent = encode_chat(tokenizer, tokenizer.chat_template, said)
    assert [*pair.before, *pair.after][: len(sent)] == sent
    assert tokenizer.decode(pair.after) == "\ndawn" and pair.before.count(tokenizer.special_tokens["<|im_end|>"]) == 1


def test_without_a_chat_template_chat_is_refused(tmp_path, tasks):
    bare = load(judged_model.write(tmp_path, chat=None))
    with pytest.raises(BadInput, match="Leave --chat out"):
        asked(bare, tasks["choose"], chat=True)


def test_a_limit_asks_the_first_and_their_examples_stay_the_same(model, tasks):
    whole, part = (
        asked(model, tasks["with_shots"], overlong="truncate"),
        asked(model, tasks["with_shots"], limit=2, overlong="truncate"),
    )
    assert [sample.asked for sample in part.samples] == [sample.asked for sample in whole.samples[:2]]
    assert [sample.nats for sample in part.samples] == [sample.nats for sample in whole.samples[:2]]
    other = asked(model, tasks["with_shots"], seed=5, overlong="truncate")
    assert [sample.asked for sample in other.samples] != [sample.asked for sample in whole.samples]
    none = asked(model, tasks["with_shots"], shots=0)
    assert all("Lead melts at" not in sample.asked for sample in none.samples)


def test_drawn_answers_are_the_same_again(model, tasks, tmp_path):
    path = changed(tasks["write"], tmp_path, generation_kwargs={"max_gen_toks": 8, "temperature": 1.0, "until": []})
    one, two, other = asked(model, path), asked(model, path), asked(model, path, seed=9)
    assert [sample.said for sample in one.samples] == [sample.said for sample in two.samples]
    assert [sample.said for sample in one.samples] != [sample.said for sample in other.samples]


# ---- files


def test_every_kind_of_file_gives_the_same_documents(tmp_path):
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"t": "a, b", "n": 3, "x": 0.5}, {"t": "丹炉", "n": -1, "x": 2.0}]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.csv").write_text('t,n,x\n"a, b",3,0.5\n丹炉,-1,2.0\n', encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for form, name in (("json", "a.jsonl"), ("json", "a.json"), ("json", "*.gz"), ("csv", "a.csv"), ("parquet", "a.parquet")):
        assert documents.read(form, {"s": name}, "s", [tmp_path]) == rows, name
    assert documents.read("json", ["a.json", "a.jsonl"], "train", [tmp_path]) == rows * 2
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n{"b": 2}\n', encoding="utf-8")
    assert documents.read("json", "b.jsonl", "train", [tmp_path]) == [{"a": 1, "b": None}, {"a": None, "b": 2}]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("x.jsonl", '{"a": 1}\n{oops\n', "line 2: not JSON"), ("x.jsonl", "[1]", "expected an object"),
    ("x.jsonl", "", "no document"), ("x.csv", "a,b\n1\n", "other columns"), ("x.parquet", "no", "no Parquet file"),
])  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=words):
        documents.read("json" if name.endswith("jsonl") else name.split(".")[1], name, "train", [tmp_path])


# ---- tasks without data


class Told:
    """Stands for a model that answers as it is told, to see what counts as right."""

    def __init__(self, model, say):
        self.model, self.tokenizer, self.context, self.prefix, self.say = model, model.tokenizer, model.context, 0, say

    def answers(self, prompts, *_, **__):
        return [Answer(self.say(self.tokenizer.decode(prompt)), (1,), True) for prompt in prompts]


def test_arithmetic_counts_what_is_right(model):
    task = TASKS.build(TASKS["arithmetic"].Config(questions=30, shots=2, largest=9))
    right = task.ask(Told(model, lambda asked: f" {eval(asked.splitlines()[-1].rstrip(' ='))}"), How())
    wrong = task.ask(Told(model, lambda asked: " 1000"), How())
    assert right.figures[0].value == 1 and wrong.figures[0].value == 0
    assert [one.asked for one in right.samples] == [one.asked for one in wrong.samples] and len(
        {one.asked for one in right.samples}
    ) > 25
    again = TASKS.build(TASKS["arithmetic"].Config(questions=30, shots=2, largest=9, seed=1))
    assert [one.asked for one in again.ask(Told(model, str), How()).samples] != [one.asked for one in right.samples]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_form_counts_forms_not_truth(model, language):
    task = TASKS.build(TASKS["form"].Config(questions=8, language=language))
    said = {"yes": ["Is", "是"], "7": ["What", "等于几"], "30, 41，52": ["three", "三个"], '{"sum": 3}': ["JSON"]}

    def answer(asked):
        return next(text for text, words in reversed(said.items()) if any(word in asked for word in words))

    assert task.ask(Told(model, answer), How(overlong="truncate")).figures[0].value > 0.9
    assert task.ask(Told(model, lambda asked: answer(asked) + " of course"), How(overlong="truncate")).figures[0].value == 0


ADD = {"prompt": 'def add(a, b):\n    """Sum."""\n', "test": "def check(f):\n    assert f(2, 3) == 5", "entry_point": "add",
       "canonical_solution": "    return a + b\n"}  # fmt: skip


def test_programs_pass_by_their_tests_in_the_sandbox(model, tmp_path):
    from danlu.stages.evaluate import programs_run

    real = shared("code_humaneval/HumanEval.jsonl.gz")
    rows = [ADD, *(documents.read("json", str(real), "train", [])[:2] if real else [])]
    (tmp_path / "code.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    solutions = {row["prompt"]: row["canonical_solution"] for row in rows}
    subject = Told(model, lambda asked: solutions[asked])
    subject.context = 10**6
    task = TASKS.build(TASKS["code"].Config(path=tmp_path / "code.jsonl"))
    with pytest.raises(BadSettings, match="brings"):
        task.ask(subject, How())
    task.run = programs_run("auto")
    assert task.ask(subject, How()).figures[0].value == 1
    subject.say = lambda asked: "    return 4\n" if "add" in asked else solutions[asked]
    found = task.ask(subject, How())
    assert found.figures[0].value == (len(rows) - 1) / len(rows) and "AssertionError" in found.samples[0].true
    subject.context = 200
    with pytest.raises(BadInput, match="Say `room` in the recipe"):
        task.ask(subject, How())
    with pytest.raises(BadSettings, match="each k is 1 to that many"):
        TASKS.build(TASKS["code"].Config(path=tmp_path / "code.jsonl", k=[2]))
    with pytest.raises(BadSettings, match="path: required"):
        opened("code")


def test_filters_take_out_what_they_say():
    (one,) = pipelines([{"name": "n", "filter": [{"function": "regex", "regex_pattern": r"(\d+)", "group_select": -1},
                                                 {"function": "take_first"}]}], "here")  # fmt: skip
    assert one("2 and 35.") == "35" and one("none") == "[invalid]"
