"""Every task that is shipped can be put to a model: on the real data where this machine has them, else on rows of ours."""

import json
from pathlib import Path

import pytest
from tests.evaluate import judged_model
from tests.shared_data import shared

from danlu.engine.model import load
from danlu.evaluate.how import How
from danlu.evaluate.subject import Subject
from danlu.evaluate.tasks import TASKS

FILES = sorted((Path(__file__).resolve().parents[3] / "recipes" / "tasks").glob("*.yaml"))
REAL = {"copa": "mc_en_gauntlet", "openbook_qa": "mc_en_gauntlet", "winograd": "mc_en_gauntlet", "xcopa_zh": "mc_xcopa",
        "blimp": "en_blimp", "gsm8k": "math_gsm8k", "python_docs_en_zh": "zhen_python_docs"}  # fmt: skip
QUERY = [{"query": "The lead was hot, therefore", "choices": ["it melted.", "it slept."], "gold": at} for at in (0, 1)]
OURS = {
    "copa": ("copa.jsonl", QUERY), "openbook_qa": ("openbook_qa.jsonl", QUERY),
    "winograd": ("winograd_wsc.jsonl", [{"context_options": ["Lead melts because lead", "Lead melts because gold"],
                                         "continuation": "is hot.", "gold": 0}] * 2),
    "xcopa_zh": ("val.zh.jsonl", [
        {"premise": "铅很热。", "choice1": "它熔化了。", "choice2": "它睡着了。", "question": "effect", "label": 0},
        {"premise": "铅熔化了。", "choice1": "它睡着了。", "choice2": "它很热。", "question": "cause", "label": 1},
    ]),
    "blimp": ("one.jsonl", [{"sentence_good": "Lead melts.", "sentence_bad": "Lead melt."}] * 3),
    "gsm8k": ("train.jsonl", [{"question": f"What is {a} and 2?", "answer": f"#### {a + 2}"} for a in range(4)]),
    "csl_titles": ("dev.jsonl", [{"text": "丹炉在黎明点燃，铅在中午熔化。", "title": "丹炉之一日"}] * 2),
    "python_docs_en_zh": ("python_docs_en_zh.jsonl", [{"en": "Lead melts.", "zh": "铅熔化了。"}] * 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(judged_model.write(tmp_path_factory.mktemp("recipes"), context=1024))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_task_can_be_put(path, model, tmp_path):
    name, rows = OURS[path.stem]
    (tmp_path / name).write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    folders = [tmp_path, *filter(None, [shared(REAL[path.stem]) if path.stem in REAL else None])]
    for folder in folders:
        task = TASKS.build(TASKS["yaml"].Config(path=path, folder=folder))
        with Subject(model) as subject:
            found = task.ask(subject, How(limit=2, overlong="truncate"))
        assert task.name == path.stem and found.counts["asked"] == 2
        assert all(figure.value >= 0 for figure in found.figures) and task.sources()[1:]
