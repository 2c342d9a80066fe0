"""Settings: what was written is what is used, and what cannot be used is said, all of it at once."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from danlu.core.errors import BadSettings
from danlu.core.settings import Flag, Named, Settings, choice, load, override, owner, read_recipe
from tests.core.shelf import make_shelf


class Bellows(Settings):
    """A nested group."""

    strokes: int = Field(3, ge=0)
    """Strokes a minute."""


class Furnace(Settings):
    """One field of each kind."""

    fuel: str
    """What burns."""
    heat: float = 0.5
    hours: int = 2
    lit: bool = False
    mode: Literal["low", "high"] = "low"
    flue: Path | None = None
    herbs: list[str] = []
    marks: list[int] = []
    shares: dict[str, float] = {}
    bellows: Bellows = Bellows()


@pytest.fixture
def press(tmp_path, monkeypatch):
    """Settings with a choice from a shelf."""
    knobs = make_shelf(tmp_path, monkeypatch)

    class Press(Settings):
        knob: Annotated[Named, choice(knobs)] = {"name": "round", "angle": 2.0}
        spare: Annotated[Named, choice(knobs)] | None = None
        many: list[Annotated[Named, choice(knobs)]] = []

    return Press


def typed(**flags):
    """As the command line fills the tree."""
    tree: dict = {}
    for dotted, value in flags.items():
        override(tree, dotted.replace("__", "."), [Flag(v) for v in value] if isinstance(value, list) else Flag(value))
    return tree


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ({"fuel": "5"}, "fuel", "5"),
        ({"fuel": "no"}, "fuel", "no"),
        ({"fuel": "null"}, "fuel", "null"),
        ({"fuel": "a: b"}, "fuel", "a: b"),
        ({"fuel": "煤"}, "fuel", "煤"),
        ({"heat": "3e-4"}, "heat", 0.0003),
        ({"heat": "7"}, "heat", 7.0),
        ({"hours": "11"}, "hours", 11),
        ({"lit": "yes"}, "lit", True),
        ({"lit": "false"}, "lit", False),
        ({"mode": "high"}, "mode", "high"),
        ({"flue": "~/x.txt"}, "flue", Path("~/x.txt")),
        ({"flue": "none"}, "flue", None),
        ({"herbs": ["1", "yes", "null"]}, "herbs", ["1", "yes", "null"]),
        ({"marks": ["2", "3"]}, "marks", [2, 3]),
        ({"shares": "{a: 0.5}"}, "shares", {"a": 0.5}),
        ({"bellows__strokes": "5"}, "bellows", Bellows(strokes=5)),
    ],
)
def test_a_flag_means_what_its_field_expects(flags, field, value):
    got = getattr(load(Furnace, typed(**{"fuel": "coal"} | flags)), field)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize("text", ["3e-4", "1e16", "2E5", "-1e-2", "1.5e+3", "0.25"])
def test_a_recipe_reads_scientific_numbers_as_numbers(tmp_path, text):
    (tmp_path / "r.yaml").write_text(f"heat: {text}\nfuel: coal 1e5\n")
    assert read_recipe(tmp_path / "r.yaml") == {"heat": float(text), "fuel": "coal 1e5"}


def test_every_wrong_line_is_named_at_once_with_near_names():
    with pytest.raises(BadSettings) as caught:
        load(Furnace, {"haet": 1, "hours": "long", "mode": "mid", "bellows": {"stroke": 2, "strokes": -1}, "zzz": 0}, "recipe r")
    said = str(caught.value)
    assert said.startswith("recipe r: 7 thing(s) to correct")
    assert "fuel: required, not given" in said
    assert "haet: no such setting; did you mean heat?" in said
    assert "hours: " in said and "'long'" in said
    assert "mode: " in said and "'mid'" in said
    assert "bellows.stroke: no such setting; did you mean strokes?" in said
    assert "bellows.strokes: " in said and "-1" in said
    assert "zzz: no such setting; known here: fuel, heat" in said
    assert caught.value.exit_code == 2


def test_settings_cannot_change_once_made():
    with pytest.raises(ValidationError, match="frozen"):
        load(Furnace, {"fuel": "coal"}).heat = 3


def test_a_fields_docstring_is_its_help():
    assert Furnace.model_fields["fuel"].description == "What burns."


def test_a_choice_is_filled_by_name_by_mapping_or_by_default(press):
    assert press().knob.angle == 2.0
    assert load(press, {"knob": "round"}).knob.angle == 0.5
    assert load(press, {"knob": {"name": "square", "side": 3}}).knob.side == 3
    assert load(press, {"knob": {"angle": 3.0}}).knob.model_dump() == {"name": "round", "angle": 3.0}
    assert load(press, {"spare": None}).spare is None
    assert load(press, {"spare": "round"}).spare.name == "round"
    assert [knob.name for knob in load(press, {"many": ["round", {"name": "box", "side": 5}]}).many] == ["round", "square"]


def test_flags_choose_and_then_set(press):
    assert load(press, typed(knob="square", knob__side="7")).knob.model_dump() == {"name": "square", "side": 7, "sharp": True}
    assert load(press, typed(knob__name="square", knob__side="7", knob__sharp="no")).knob.sharp is False
    assert load(press, typed(knob__angle="1.5")).knob.angle == 1.5
    assert load(press, typed(spare="none")).spare is None


def test_flags_win_over_the_recipe_and_leave_the_rest(press):
    tree = {"knob": {"name": "square", "side": 3, "sharp": False}}
    override(tree, "knob.side", Flag("5"))
    assert load(press, tree).knob.model_dump() == {"name": "square", "side": 5, "sharp": False}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"knob": "sqare"}, r"knob: no knob called 'sqare'. Did you mean square\?"),
        ({"knob": {"name": "square", "angle": 3}}, "knob"),
        ({"knob": {"name": "round", "angel": 3}}, r"knob.angel: no such setting; did you mean angle\?"),
        ({"knob": {"name": "round", "angle": 9}}, r"knob.angle: .*less than or equal to 7.*found 9"),
        ({"many": [{"side": 3}]}, "say which knob with `name:`; known: round, square"),
        ({"knob": 3}, "say which knob with `name:`"),
    ],
)
def test_a_wrong_choice_is_explained(press, tree, said):
    with pytest.raises(BadSettings, match=said):
        load(press, tree)


def test_settings_survive_a_recipe_file(press, tmp_path):
    import yaml

    config = load(press, {"knob": {"name": "square", "side": 3}, "many": ["round"]})
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    assert load(press, read_recipe(tmp_path / "r.yaml")) == config


@given(
    st.fixed_dictionaries(
        {"fuel": st.text(max_size=5), "heat": st.floats(allow_nan=False, allow_infinity=False), "hours": st.integers()},
        optional={
            "herbs": st.lists(st.text(max_size=3), max_size=3),
            "bellows": st.fixed_dictionaries({"strokes": st.integers(0)}),
        },
    )
)
def test_any_settings_survive_their_own_record(tree):
    config = load(Furnace, tree)
    assert load(Furnace, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "expected `key: value` lines"),
        ("a: [", "is not YAML"),
        ("\tb", "is not YAML"),
        ("!!python/none x", "is not YAML"),
    ],
)
def test_a_recipe_that_is_none_is_refused(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(BadSettings, match=said):
        read_recipe(tmp_path / "r.yaml")


def test_a_missing_recipe_is_refused_and_an_empty_one_says_nothing(tmp_path):
    with pytest.raises(BadSettings, match="No such file"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_recipe(tmp_path / "empty.yaml") == {}


def test_owner_lists_what_may_stand_at_a_place():
    assert owner(Furnace, ["bellows"]) == ["strokes"]
    assert "fuel" in owner(Furnace, [])
    assert owner(Furnace, ["nothing", "here"]) == []
