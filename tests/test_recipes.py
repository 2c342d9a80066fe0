"""Every recipe that is shipped fits the stage whose folder it stands in."""

from pathlib import Path

import pytest

from danlu.core.settings import load, read_recipe
from danlu.stages import STAGES, settings_of

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
TASKS = sorted((FOLDER / "tasks").glob("*.yaml"))
"""Tasks for `danlu evaluate --tasks`, in a form of their own: tests/evaluate/tasks/test_shipped_tasks.py asks them."""
RECIPES = sorted({*FOLDER.rglob("*.yaml")} - {*TASKS})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_fits_its_stage(path):
    stage = path.parent.name
    assert stage in STAGES
    kind = settings_of(stage)
    recipe = read_recipe(path)
    asked = {name: ["mine"] if "list" in str(field.annotation) else "mine" for name, field in kind.model_fields.items()
             if field.is_required() and name not in recipe}  # fmt: skip
    config = load(kind, {**asked, **recipe}, str(path))
    assert load(kind, config.model_dump(mode="json")) == config
    assert not {"out", "dataset", "sources"} & set(recipe), "a recipe leaves inputs and outputs to the command"


def test_there_are_recipes_for_the_long_stages():
    assert {path.parent.name for path in RECIPES} >= {"prepare", "pretrain", "finetune", "align"}
