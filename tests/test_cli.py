"""The command line keeps its contract: exit codes, recipes and flags, help that loads nothing, clean stdout."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from danlu import cli
from danlu.cli import main, overview, parse, stage_help
from danlu.completion import candidates, script
from danlu.core.errors import BadSettings, DanluError, UnknownName
from danlu.core.help import rows
from danlu.core.settings import Settings
from danlu.stages import STAGES, settings_of


class Brew(Settings):
    """A stage's settings that exist only here."""

    positional = ("herbs", "pot")

    herbs: list[str]
    pot: Path
    heat: float = 0.5
    lit: bool = False
    out: Path = Path("x")


def flags(*words):
    found, common = parse(Brew, words)
    return {key: [str(part) for part in value] if isinstance(value, list) else str(value) for key, value in found}, common


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "b", "p"], {"herbs": ["a", "b"], "pot": "p"}),
        (["a", "p", "--heat", "3e-4"], {"herbs": ["a"], "pot": "p", "heat": "3e-4"}),
        (["--heat=-2", "a", "p"], {"herbs": ["a"], "pot": "p", "heat": "-2"}),
        (["--heat", "-2"], {"heat": "-2"}),
        (["--herbs", "a", "b", "--pot", "p"], {"herbs": ["a", "b"], "pot": "p"}),
        (["--lit", "--heat", "1"], {"lit": "true", "heat": "1"}),
        (["--lit", "no"], {"lit": "no"}),
        (["-o", "here"], {"out": "here"}),
        (["-o=here"], {"out": "here"}),
        (["--", "--odd", "-p"], {"herbs": ["--odd"], "pot": "-p"}),
        (["--a-b.c-d", "1"], {"a_b.c_d": "1"}),
    ],
)
def test_words_become_settings(words, expected):
    assert flags(*words)[0] == expected


@pytest.mark.parametrize("chosen", [["--adapter", "lora"], ["--adapter=lora"], ["--adapter.name", "lora"]])
def test_lists_and_switches_of_a_chosen_thing_are_known_wherever_it_is_named(chosen):
    asked = ["--adapter.targets", "q_proj", "v_proj", "--adapter.rslora", *chosen, "model", "data"]
    found = dict(parse(settings_of("finetune"), asked)[0])
    assert found["adapter.targets"] == ["q_proj", "v_proj"] and found["adapter.rslora"] == "true"
    assert (found["model"], found["dataset"]) == ("model", "data")


def test_common_flags_are_no_settings():
    assert flags("--dry-run", "--quiet", "--recipe", "r.yaml") == ({}, {"dry-run": "yes", "quiet": "yes", "recipe": "r.yaml"})


def test_words_left_over_are_refused():
    class One(Settings):
        positional = ("a",)
        a: str

    with pytest.raises(BadSettings, match=r"too many words: 'c d' left over \(inputs here: A\)"):
        parse(One, ["b", "c", "d"])


def test_flags_win_over_the_recipe_and_a_dry_run_prints_what_would_be_used(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("shelf: filters\nname: length\n")
    assert main(["list", "--recipe", str(tmp_path / "r.yaml"), "--name", "other", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) == {"shelf": "filters", "name": "other"}
    (tmp_path / "again.yaml").write_text(printed)
    assert main(["list", "--recipe", str(tmp_path / "again.yaml"), "--dry-run"]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nonsense"], 2, "no command called 'nonsense'"),
        (["lst"], 2, "Did you mean list?"),
        (["list", "--shlf", "x"], 2, "shlf: no such setting; did you mean shelf?"),
        (["list", "no-such-shelf"], 2, "no shelf called 'no-such-shelf'"),
        (["list", "a", "b", "c"], 2, "left over"),
        (["list", "--recipe", "/no/such/file.yaml"], 2, "recipe /no/such/file.yaml"),
        (["--completion", "csh"], 2, "no shell called 'csh'"),
    ],
)
def test_wrong_use_is_answered_in_one_line_with_exit_code_2(words, code, said, capsys):
    assert main(words) == code
    heard = capsys.readouterr()
    assert heard.out == "" and heard.err.startswith("danlu: ") and said in heard.err and "Traceback" not in heard.err


@pytest.mark.parametrize(
    ("failure", "code"), [(DanluError("broken"), 1), (KeyboardInterrupt(), 130), (BadSettings("odd"), 2)], ids=type
)
def test_exit_codes(failure, code, monkeypatch, capsys):
    def fail(words):
        raise failure

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert main(["list"]) == code
    assert capsys.readouterr().err.startswith("danlu: ")


def test_list_prints_on_stdout_only(capsys):
    assert main(["list"]) == 0
    heard = capsys.readouterr()
    assert "optimisers" in heard.out and heard.err == ""


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("danlu 0.")


def test_the_overview_shows_every_stage_with_its_line():
    text = overview()
    assert all(f"  {name} " in text and STAGES.summary(name) in text for name in STAGES.names())


@pytest.mark.parametrize("stage", STAGES.names())
def test_stage_help_shows_every_setting(stage):
    text = stage_help(stage)
    assert all(f"--{row.name}  <{row.type}>" in text for row in rows(settings_of(stage)))


@pytest.mark.parametrize("words", [["--help"], *([stage, "--help"] for stage in STAGES.names()), ["list"]], ids=" ".join)
def test_help_loads_no_torch(words):
    program = f"import sys\nfrom danlu.cli import main\nmain({words!r})\nprint('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "False"
    assert len(done.stdout) > 100


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_back(shell):
    assert "danlu --complete" in script(shell)


@pytest.mark.parametrize("shell", ["bash"])
def test_the_completion_script_is_valid(shell):
    assert subprocess.run([shell, "-n"], input=script(shell), text=True, timeout=30).returncode == 0


def test_completion_offers_stages_then_settings_then_names():
    assert candidates(["li"]) == ["list"]
    assert "--shelf" in candidates(["list", "--sh"])
    assert candidates(["nonsense", ""]) == []
    assert candidates(["export", "m", "--to", ""]) == ["hf"], "short for --to.name"
    choices = {row.name: row.type for name in STAGES.names() for row in rows(settings_of(name)) if " | " in row.type}
    for stage in STAGES.names():
        for row in rows(settings_of(stage)):
            if " | " in row.type and row.name in choices:
                assert candidates([stage, f"--{row.name}", ""]) == row.type.split(" | ")


def test_an_unknown_shell_is_refused():
    with pytest.raises(UnknownName, match="bash"):
        script("bsh")


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(f"{sys.executable} -m danlu list | head -n 1", shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr and done.stdout.count("\n") == 1
