"""The rules of the house, checked on whatever stands in it: a new file is enrolled because it exists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from danlu.core.registry import shelves
from danlu.core.settings import Named, Settings, shelf
from danlu.stages import STAGES, settings_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "danlu"
FILES = sorted(path for folder in ("src", "tests", "tools", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
SOURCES = [path for path in FILES if path.is_relative_to(PACKAGE)]
THINGS = [(found, name) for found in shelves().values() if found is not STAGES for name in found.names()]
LANGUAGES = ("en", "zh")


def thing_id(value):
    return value if isinstance(value, str) else value.package.removeprefix("danlu.")


def offenders(files, wrong):
    """Files for which `wrong(text)` is true, by name."""
    return [path.relative_to(ROOT).as_posix() for path in files if wrong(path.read_text(encoding="utf-8"))]


def test_a_file_is_one_idea_of_moderate_length():
    assert offenders(FILES, lambda text: text.count("\n") > 500) == []


def test_a_file_says_what_it_is_in_its_first_line():
    def silent(text):
        first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        return len(first) < 12 or first.lower().startswith(
            ("this module", "this file", "module for", "utilities", "helper functions")
        )

    assert offenders([path for path in FILES if not path.is_relative_to(ROOT / "tests")], silent) == []


def test_nothing_is_left_undone_in_the_sources():
    assert offenders(SOURCES, re.compile(r"\b(TODO|FIXME|XXX|HACK)\b").search) == []
    assert offenders(SOURCES, re.compile(r"except(?: (?:Base)?Exception)?:\s*(?:pass|return None|continue)\b").search) == []
    assert offenders(SOURCES, lambda text: "NotImplementedError" in text) == []


def test_no_path_of_one_machine_is_written_down():
    places = ["/wo" + "rk/", "/tmp" + "/v/", "/ro" + "ot/", "/ho" + "me/"]
    files = [*FILES, *(ROOT / "benchmarks").rglob("*.json")]
    assert offenders(files, lambda text: any(place in text for place in places)) == []


@pytest.mark.parametrize(("registry", "name"), THINGS, ids=thing_id)
def test_a_thing_on_a_shelf_has_its_files_name_and_documented_settings(registry, name):
    thing = registry[name]
    assert len(registry.summary(name)) >= 12
    if isinstance(thing, type):
        assert issubclass(thing.Config, Named)
        assert thing.Config.model_fields["name"].default == name
        fields = thing.Config.model_fields.items()
        assert not [key for key, field in fields if key != "name" and not (field.description or "").strip()]
    else:
        assert thing.__name__ == name and thing.__doc__


@pytest.mark.parametrize("stage", STAGES.names())
def test_every_setting_of_a_stage_is_documented_and_its_default_is_valid(stage):
    def undocumented(kind, prefix=""):
        for key, field in kind.model_fields.items():
            if not (field.description or "").strip() and not (key == "name" and issubclass(kind, Named)):
                yield prefix + key
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Settings) and not shelf(field):
                yield from undocumented(inner, f"{prefix}{key}.")

    kind = settings_of(stage)
    assert issubclass(kind, Settings)
    assert list(undocumented(kind)) == []
    assert set(kind.positional) <= set(kind.model_fields)
    assert STAGES[stage].__name__ == stage


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("stage", STAGES.names())
def test_every_stage_is_shown_in_the_docs_of_both_languages(stage, language):
    written = [path for path in (ROOT / "docs" / language).rglob("*.md") if path.name != "reference.md"]
    assert any(f"danlu {stage}" in path.read_text(encoding="utf-8") for path in written)


def test_the_package_and_all_its_folders_load_no_heavy_library():
    """Help, listing and completion import these; torch alone would cost them seconds."""
    inits = [".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in SOURCES if path.name == "__init__.py"]
    stages = [f"danlu.stages.{name}" for name in STAGES.names()]
    heavy = ["torch", "transformers", "daft", "pyarrow", "matplotlib", "tokenizers", "tiktoken", "rich"]
    program = f"import importlib, sys\nfor name in {inits + stages + ['danlu.cli']!r}: importlib.import_module(name)\n"
    program += f"print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]


def test_the_packages_public_names_are_the_stages():
    import danlu

    assert set(STAGES.names()) | {"load", "__version__"} == set(dir(danlu))
    assert callable(danlu.list) and danlu.list.__doc__
    assert danlu.__version__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        danlu.nonsense  # noqa: B018  # looking is the act


def test_tests_mirror_the_package():
    floors = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    tested = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert tested - {"docs", "tools"} <= floors
    assert {floor for floor in floors if any(f.name != "__init__.py" for f in (PACKAGE / floor).rglob("*.py"))} <= tested


def test_every_commit_tells_its_change():
    fragments = [path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "README.md"]
    assert fragments
    for path in fragments:
        assert re.fullmatch(r"\d+-[a-z0-9-]+\.md", path.name)
        assert path.read_text(encoding="utf-8").strip()


def test_decisions_are_numbered_once():
    numbers = [path.name[:4] for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md")]
    assert numbers and len(set(numbers)) == len(numbers)


def test_pins_agree_with_the_ranges():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["all"], *extras["test"], *extras["docs"]]:
        wanted = Requirement(text)
        if wanted.name != "danlu":
            assert pins[wanted.name.lower().replace("_", "-")] in wanted.specifier, text
