"""Rewards give what their formulas say, agree with TRL where it has the same, and add up."""

import gzip
import json
import math
import sys

import numpy as np
import pytest
import torch
from tests.shared_data import shared
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.core.errors import BadInput, BadSettings
from danlu.core.settings import load
from danlu.metrics.numbers import answer_number
from danlu.models.heads import HeadConfig, attach, load_body
from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Mix, Reward
from danlu.train.rewards.code import program_of, read_tests

USER = ({"role": "user", "content": "what?"},)
SETTINGS = {"regex": {"pattern": "x"}, "code": {"sandbox": "rlimits"}}


def built(name, **settings) -> Reward:
    return REWARDS.build(REWARDS[name].Config(**settings))


def score(name, answer, truth="1", ended=True, tokens=3, **settings):
    return built(name, **settings).score([Asked(USER, answer, truth, ended, tokens)])[0]


@pytest.mark.parametrize("name", [name for name in REWARDS.names() if name != "model"])
def test_every_reward_gives_a_finite_number_for_each_answer_whatever_it_says(name):
    truth = '["assert True"]' if name == "code" else "5"
    answers = ["", " ", "5", "<think>a</think><answer>5</answer>", "丹" * 50, "\x00\udcff", "((((" * 9, "```python\nx=1\n```"]
    found = built(name, **SETTINGS.get(name, {})).score([Asked(USER, one, truth, True, len(one)) for one in answers])
    assert len(found) == len(answers) and all(isinstance(one, float) and math.isfinite(one) for one in found)
    assert built(name, **SETTINGS.get(name, {})).score([]) == []


@pytest.mark.parametrize(("answer", "truth", "settings", "worth"), [
    ("Paris.", "paris", {}, 0.0), ("Paris.", "paris", {"punctuation": False}, 1.0), ("巴黎", "巴 黎", {}, 1.0),
    ("It is Paris", "Paris", {"match": "inside"}, 1.0), ("Paris it is", "Paris", {"match": "start"}, 1.0),
    ("It is Paris", "Paris", {"match": "start"}, 0.0), ("no", '["yes", "no"]', {}, 1.0), ("Yes", "yes", {"case": True}, 0.0),
    ("<answer>no</answer>", "no", {"tag": "answer"}, 1.0), ("no", "no", {"tag": "answer"}, 0.0),
    ("so: no", "no", {"mark": ":"}, 1.0),
    ("...", "!", {"match": "inside", "punctuation": False}, 0.0),
])  # fmt: skip
def test_exact(answer, truth, settings, worth):
    assert score("exact", answer, truth, **settings) == worth


@pytest.mark.parametrize(("answer", "truth", "settings", "worth"), [
    ("#### 1,200", "1200", {}, 1.0), ("so \\boxed{\\frac{1}{2}} of 3", "0.5", {}, 1.0), ("2 or 3", "3", {}, 1.0),
    ("none", "3", {}, 0.0),
    ("3.0001", "3", {}, 0.0), ("3.0001", "3", {"tolerance": 1e-3}, 1.0), ("三", "3", {"chinese": True}, 1.0),
    ("三", "3", {}, 0.0),
    ("answer: 4 not 5", "4", {"mark": "answer:"}, 1.0), ("4", "4", {"mark": "answer:"}, 0.0),
    ("4", "so 2 and 2\n#### 4", {}, 1.0),
    ("<answer>4</answer> 5", "4", {"tag": "answer"}, 1.0), ("1e999999999", "4", {}, 0.0),
])  # fmt: skip
def test_numeric(answer, truth, settings, worth):
    assert score("numeric", answer, truth, **settings) == worth


@pytest.mark.parametrize(("answer", "settings", "worth"), [
    ("<think>a</think><answer>b</answer>", {}, 1.0), (" <think>\na\n</think>\n<answer>b</answer>\n", {}, 1.0),
    ("<think>a</think><answer>b</answer> more", {}, 0.0), ("<answer>b</answer><think>a</think>", {}, 0.0),
    ("<think> </think><answer>b</answer>", {}, 0.0), ("<think>a</think><answer>b", {"partial": True}, 0.5625),
    ("<think>a</think><think>a</think>", {"partial": True}, 0.0), ("a</think><answer>b</answer>", {"opened": True}, 1.0),
    ("a", {"opened": True, "partial": True}, 0.0), ("x: 1\ny", {"pattern": r"x: \d.*"}, 1.0),
    ("x: a", {"pattern": r"x: \d.*"}, 0.0),
    ("<a>1</a>", {"tags": "a"}, 1.0),
])  # fmt: skip
def test_format(answer, settings, worth):
    assert score("format", answer, **settings) == worth


def test_regex_length_and_repetition():
    assert score("regex", "yes, YES", pattern="yes", most=3) == 2.0 and score("regex", "no", pattern="yes", missed=-1) == -1.0
    assert score("regex", "YES", pattern="yes", case=True) == 0.0
    assert score("length", "abcd", unit="characters", most=2, margin=4) == -0.5
    assert score("repetition", "a b a b", words=1) == -0.5 and score("repetition", "a b a b", words=1, allowed=0.25) == -0.25


def test_length_is_trls_overlong_punishment():
    trl = pytest.importorskip("trl.rewards")
    for longest, cache in ((20, 5), (7, 7), (9, 0)):
        lengths = range(longest + 4)
        theirs = trl.get_soft_overlong_punishment(longest, cache)([[0] * length for length in lengths])
        ours = built("length", most=longest - cache, margin=cache).score([Asked(USER, "", "", True, one) for one in lengths])
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_repetition_is_trls_where_words_are_tokens():
    trl = pytest.importorskip("trl.rewards")
    random = np.random.default_rng(0)
    for size in (1, 2, 3):
        ids = [random.integers(0, 4, random.integers(0, 12)).tolist() for _ in range(30)]
        theirs = trl.get_repetition_penalty_reward(size)(ids)
        ours = built("repetition", words=size).score([Asked(USER, " ".join(f"w{one}" for one in row)) for row in ids])
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's locks are Linux's")
def test_code_passes_its_tests_in_every_form_of_them():
    add = "def add(a, b):\n    return a + b\n"
    lines, check = json.dumps(["assert add(1, 2) == 3", "assert add(0, 0) == 1"]), "def check(f):\n    assert f(2, 2) == 4\n"
    human = json.dumps({"prompt": "def add(a, b):\n", "test": check, "entry_point": "add"})
    io = json.dumps({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "8"]})
    asked = [
        Asked(USER, f"Here:\n```python\n{add}```\nDone.", "assert add(1, 2) == 3\nassert add(2, 2) == 4"),
        Asked(USER, add, lines),
        Asked(USER, "    return a + b", human), Asked(USER, "    return a - b", human), Asked(USER, f"```py\n{add}```", human),
        Asked(USER, "print(sum(map(int, input().split())))", io), Asked(USER, "import os; os._exit(0)", lines),
        Asked(USER, "import sys; sys.exit(0)", lines), Asked(USER, "这不是程序", lines),
    ]  # fmt: skip
    assert built("code").score(asked) == [1, 0, 1, 0, 1, 0, 0, 0, 0]
    assert built("code", partial=True).score(asked) == [1, 0.5, 1, 0, 1, 0.5, 0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's locks are Linux's")
def test_solutions_of_humaneval_pass_and_empty_ones_fail():
    path = shared("code_humaneval")
    if path is None:
        rows = [{"prompt": "def one():\n", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "one",
                 "canonical_solution": "    return 1\n"}]  # fmt: skip
    else:
        with gzip.open(path / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file][::12]
    truths = [json.dumps({key: row[key] for key in ("prompt", "test", "entry_point")}) for row in rows]
    right = [Asked(USER, row["canonical_solution"], truth) for row, truth in zip(rows, truths, strict=True)]
    wrong = [Asked(USER, "    return None", truth) for truth in truths]
    found = built("code").score([*right, *wrong])
    assert found == [1.0] * len(rows) + [0.0] * len(rows)


def test_known_answers_of_gsm8k_are_read_as_its_own_mark_says():
    path = shared("math_gsm8k")
    lines = ['{"answer": "2 and 1,000\\n#### 1,002"}'] if path is None else (path / "train.jsonl").read_text("utf-8").splitlines()
    for line in lines:
        truth = json.loads(line)["answer"]
        assert answer_number(truth) == int(truth.rpartition("####")[2].strip().replace(",", ""))
    built("numeric").check(json.loads(lines[0])["answer"])


def test_a_reward_model_scores_whole_conversations_and_no_gradient_reaches_it(tmp_path):
    from danlu.engine.heads import save_headed
    from danlu.tokenizer.chat import CHATML
    from danlu.tokenizer.turns import with_template

    write_tiny(tmp_path / "body")
    model = attach(load_body(tmp_path / "body"), HeadConfig(task="reward"), seed=3)
    (tmp_path / "judge").mkdir()
    save_headed(model, with_template(tiny_tokenizer(), CHATML), tmp_path / "judge")
    reward = built("model", path=tmp_path / "judge", weight=2.0)
    asked = [Asked(USER, text) for text in ("good", "bad", "good", "a longer answer")]
    with torch.enable_grad():
        found = reward.score(asked)
    assert found[0] == pytest.approx(found[2], abs=1e-6) and len({round(one, 6) for one in found}) == 3
    assert [reward.score([one])[0] for one in asked] == pytest.approx(found, abs=1e-5)
    assert all(part.grad is None for part in reward.opened.model.parameters())
    with pytest.raises(BadSettings, match="no head that scores"):
        built("model", path=tmp_path / "body")


def test_rewards_add_up_by_weight_and_appear_by_name():
    length = REWARDS["length"].Config(most=1, margin=0, weight=0.5)
    mix = Mix([REWARDS["exact"].Config(weight=2.0), length, REWARDS["exact"].Config(match="inside")])
    found = mix.score([Asked(USER, "a", "a", True, 1), Asked(USER, "a b", "a", True, 2)])
    assert found.parts == {"exact": [1.0, 0.0], "length": [0.0, -1.0], "exact#2": [1.0, 1.0]}
    assert found.total == [3.0, 0.5] and mix.needs_truth == ["exact", "exact#2"]


@pytest.mark.parametrize(("name", "settings"), [
    ("regex", {"pattern": "("}), ("regex", {}), ("format", {"pattern": "["}), ("format", {"tags": "a b"}),
    ("length", {"least": 9, "most": 3}),
    ("numeric", {"tolerance": -1}), ("exact", {"mode": "whole"}),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(name, settings):
    with pytest.raises(BadSettings):
        load(REWARDS[name].Config, settings)


@pytest.mark.parametrize(("name", "truth"), [
    ("exact", " "), ("numeric", ""), ("numeric", "many"), ("code", "x"), ("code", "{}"), ("code", '{"inputs": ["1"]}'),
    ("code", "[1]"),
    ("code", '{"tests": []}'), ("code", "[]"),
])  # fmt: skip
def test_a_known_answer_that_cannot_be_compared_with_is_refused_before_the_run_by_its_place(name, truth):
    mix = Mix([REWARDS[name].Config(**SETTINGS.get(name, {}))])
    with pytest.raises(BadInput, match=r"^data.jsonl:7: "):
        mix.check([("data.jsonl:7", truth)])


def test_a_program_is_the_last_block_behind_what_it_continues():
    tests = read_tests(
        '{"prompt": "import math\\n\\ndef f(x):\\n", "test": "def check(f): pass", "entry_point": "f", "setup": "y = 1"}'
    )
    assert program_of("    return x", tests) == "y = 1\nimport math\n\ndef f(x):\n    return x"
    assert (
        program_of("```\na\n```\n```python\ndef f(x):\n    return 2\n```", tests)
        == "y = 1\nimport math\n\n\ndef f(x):\n    return 2\n"
    )
