"""A folder is a shelf: files are its things, and listing them loads none."""

import sys

import pytest

from danlu.core.errors import UnknownName
from danlu.core.registry import Registry, shelves
from tests.core.shelf import make_shelf


@pytest.fixture
def knobs(tmp_path, monkeypatch):
    return make_shelf(tmp_path, monkeypatch)


def test_names_are_the_files_that_register_and_nothing_is_imported(knobs):
    assert knobs.names() == ["round", "square"]
    assert "round" in knobs and "helper" not in knobs
    assert [knobs.summary(name) for name in knobs.names()] == ["Turns without an end.", "Fits square holes."]
    assert not {name for name in sys.modules if name.startswith(f"{knobs.package}.")}


def test_asking_for_one_thing_imports_that_file_only(knobs):
    assert knobs["round"].__name__ == "Round"
    assert f"{knobs.package}.round" in sys.modules and f"{knobs.package}.square" not in sys.modules


def test_build_hands_config_and_parts_to_the_thing(knobs):
    config = knobs["square"].Config(side=3)
    built = knobs.build(config, "left", 5)
    assert (built.config, built.parts) == (config, ("left", 5))


def test_an_alias_is_the_same_thing(knobs):
    assert knobs["box"] is knobs["square"]
    assert "box" not in knobs.names()


def test_a_plug_in_stands_beside_the_files(tmp_path, monkeypatch):
    found = tmp_path / "elsewhere-1.0.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text("[knobs_for_tests]\noval = elsewhere:Oval\n")
    (tmp_path / "elsewhere.py").write_text("class Oval:\n    pass\n")
    knobs = make_shelf(tmp_path, monkeypatch)
    assert knobs.names() == ["oval", "round", "square"] and knobs.summary("oval") == "(installed plug-in)"
    assert "elsewhere" not in sys.modules
    assert knobs["oval"].__module__ == "elsewhere"
    assert knobs["box"] is knobs["square"]
    monkeypatch.delitem(sys.modules, "elsewhere")


def test_an_unknown_name_is_answered_with_near_names(knobs):
    with pytest.raises(UnknownName, match=r"no knob called 'sqare'. Did you mean square\?"):
        knobs["sqare"]
    with pytest.raises(UnknownName, match=r"Known: round, square"):
        knobs["zzz"]


def test_two_things_cannot_claim_one_name():
    shelf = Registry("knob", "nowhere")
    shelf.register(lambda: 1)  # both are called <lambda>
    with pytest.raises(ValueError, match="two knobs claim the name '<lambda>'"):
        shelf.register(lambda: 2)


def test_registering_the_same_thing_twice_is_harmless():
    shelf = Registry("knob", "nowhere")

    def turn():
        return 7

    assert shelf.register(turn) is turn
    assert shelf.register(turn) is turn
    assert shelf["turn"] is turn


def test_a_shelf_without_a_folder_is_empty():
    assert Registry("knob", "no_such_package_anywhere").names() == []


def test_every_shelf_of_the_house_is_found_by_its_folder():
    found = shelves()
    assert {"stages", "filters", "readers", "optimisers"} <= set(found)
    assert all(shelf.package.rpartition(".")[2] == name for name, shelf in found.items())
