"""An artefact is there whole, or it is not there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from danlu.core import files, lineage
from danlu.core.artifact import check_out, open_artifact, publish, work_folder
from danlu.core.errors import DamagedArtifact, NoSpace, NotAnArtifact, OutputExists
from danlu.core.settings import Settings


class Brew(Settings):
    """Settings of a stage that exists only here."""

    heat: int = 3
    herb: str = "丹"


def brew(out: Path, text: str = "gold", inputs=(), **more):
    with publish(out, kind="pill", stage="brew", settings=Brew(), inputs=inputs, **more) as draft:
        files.write_text(draft.path / "pill.txt", text)
        files.write_text(draft.path / "deep" / "ash.txt", "ash")
        draft.ledger, draft.metrics, draft.seeds = {"read": 5, "kept": 2}, {"purity": 0.5}, {"order": 7}
        draft.licences, draft.sources, draft.wall_s = ["CC0-1.0"], ["mine"], 11.0
    return draft.result


def test_what_was_published_is_what_is_opened(tmp_path):
    made = brew(tmp_path / "pill")
    opened = open_artifact(tmp_path / "pill", "pill", verify=True)
    assert opened == made
    assert (opened.kind, opened.id) == ("pill", made.lineage.id)
    record = opened.lineage
    assert record.settings == {"heat": 3, "herb": "丹"}
    assert record.ledger == {"read": 5, "kept": 2} and record.seeds == {"order": 7} and record.metrics == {"purity": 0.5}
    assert record.licences == ("CC0-1.0",) and record.sources == ("mine",) and record.wall_s >= 11
    assert {output.file: output.bytes for output in record.outputs} == {"pill.txt": 4, "deep/ash.txt": 3}
    assert record.code["danlu"] and record.machine["cores"] >= 1


def test_the_id_speaks_of_content_not_of_place_or_time(tmp_path):
    here, there, other = brew(tmp_path / "a"), brew(tmp_path / "b" / "c"), brew(tmp_path / "d", "lead")
    assert here.id == there.id != other.id
    assert len(here.id) == 16


def test_files_have_the_permissions_that_new_files_have_here(tmp_path):
    with publish(tmp_path / "pill", kind="pill", stage="brew", settings=Brew()) as draft:
        (draft.path / "private.bin").write_bytes(b"x")
        (draft.path / "private.bin").chmod(0o600)
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in (*(tmp_path / "pill").iterdir(), tmp_path / "plain")}
    assert len(modes) == 1, "others who may read new files here may read every part of the artefact"


def test_the_id_is_computed_as_documented(tmp_path):
    import hashlib

    made = brew(tmp_path / "a")
    lines = [f"{name}\0{hashlib.sha256(text).hexdigest()}\n" for name, text in (("deep/ash.txt", b"ash"), ("pill.txt", b"gold"))]
    assert made.id == hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_nothing(tmp_path, failure):
    with pytest.raises(failure), publish(tmp_path / "x", kind="pill", stage="brew", settings=Brew()) as draft:
        files.write_text(draft.path / "half", "half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_a_kill_inside_leaves_no_artefact_and_the_same_command_works_after(tmp_path):
    program = """
import sys, os, signal
from pathlib import Path
from danlu.core.artifact import publish
from danlu.core.settings import Settings
with publish(Path(sys.argv[1]), kind="pill", stage="brew", settings=Settings()) as draft:
    (draft.path / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "pill")], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "pill").exists()
    with pytest.raises(NotAnArtifact, match="no such folder"):
        open_artifact(tmp_path / "pill")
    assert brew(tmp_path / "pill").id == open_artifact(tmp_path / "pill", verify=True).id
    assert [path.name for path in tmp_path.iterdir()] == ["pill"], "what the killed attempt left is gone"


def test_what_a_living_process_writes_aside_is_left_alone(tmp_path):
    with publish(tmp_path / "pill", kind="pill", stage="brew", settings=Brew()) as draft:
        files.write_text(draft.path / "first", "first")
        other = tmp_path / ".pill.partial-1"  # process 1 is always there
        other.mkdir()
        brew(tmp_path / "other")
        assert draft.path.is_dir()
    brew(tmp_path / "pill", overwrite=True)
    assert other.is_dir()


def test_an_artefact_that_a_killed_attempt_was_about_to_replace_comes_back(tmp_path):
    first = brew(tmp_path / "pill")
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True).stdout.strip()
    (tmp_path / "pill").rename(tmp_path / f".pill.replaced-{gone}")  # killed between its two renames
    with pytest.raises(OutputExists):
        brew(tmp_path / "pill", "lead")
    assert open_artifact(tmp_path / "pill", verify=True) == first


def test_a_full_disk_inside_is_said_and_leaves_nothing(tmp_path):
    with pytest.raises(NoSpace, match="No space left"), publish(tmp_path / "x", kind="p", stage="s", settings=Brew()) as draft:
        files.write_text(draft.path / "half", "half")
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_a_taken_place_is_refused_before_any_work_unless_overwriting_is_asked(tmp_path):
    first = brew(tmp_path / "pill")
    with pytest.raises(OutputExists, match=r"is a finished artefact. Choose another --out, or say --overwrite"):
        brew(tmp_path / "pill", "lead")
    assert open_artifact(tmp_path / "pill", verify=True) == first
    second = brew(tmp_path / "pill", "lead", overwrite=True)
    assert second.id != first.id
    assert open_artifact(tmp_path / "pill", verify=True) == second
    assert [path.name for path in tmp_path.iterdir()] == ["pill"]


def test_overwriting_that_fails_keeps_the_old_artefact(tmp_path):
    first = brew(tmp_path / "pill")
    with (
        pytest.raises(ZeroDivisionError),
        publish(tmp_path / "pill", kind="p", stage="s", settings=Brew(), overwrite=True) as draft,
    ):
        files.write_text(draft.path / "half", "half")
        raise ZeroDivisionError
    assert open_artifact(tmp_path / "pill", verify=True) == first


def test_a_folder_of_the_users_is_refused_and_an_empty_one_is_used(tmp_path):
    (tmp_path / "mine").mkdir()
    check_out(tmp_path / "mine", overwrite=False)
    assert brew(tmp_path / "mine").path == tmp_path / "mine"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(OutputExists, match="is not empty"):
        brew(tmp_path / "notes")
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear diary"


@pytest.mark.parametrize(
    ("damage", "said", "seen_by_size"),
    [
        (lambda pill: (pill / "pill.txt").unlink(), "pill.txt: missing", True),
        (lambda pill: (pill / "pill.txt").write_text("golden"), "pill.txt: 6 bytes, recorded 4", True),
        (lambda pill: (pill / "pill.txt").write_text("bold"), "pill.txt: content differs", False),
        (lambda pill: (pill / "more.txt").write_text("x"), "more.txt: not part of the artefact", False),
    ],
)
def test_damage_is_found(tmp_path, damage, said, seen_by_size):
    brew(tmp_path / "pill")
    damage(tmp_path / "pill")
    with pytest.raises(DamagedArtifact, match=said):
        open_artifact(tmp_path / "pill", verify=True)
    if seen_by_size:
        with pytest.raises(DamagedArtifact, match=said):
            open_artifact(tmp_path / "pill")
    else:
        assert open_artifact(tmp_path / "pill").kind == "pill"  # opening is cheap: content is only rehashed when asked


def test_all_damage_is_listed_at_once(tmp_path):
    brew(tmp_path / "pill")
    (tmp_path / "pill" / "pill.txt").unlink()
    (tmp_path / "pill" / "deep" / "ash.txt").write_text("soot!")
    with pytest.raises(DamagedArtifact) as caught:
        open_artifact(tmp_path / "pill")
    assert "pill.txt: missing" in str(caught.value) and "deep/ash.txt: 5 bytes, recorded 3" in str(caught.value)


def test_a_broken_record_is_damage_and_a_missing_one_is_no_artefact(tmp_path):
    brew(tmp_path / "pill")
    record = tmp_path / "pill" / lineage.NAME
    record.write_text(record.read_text()[:100])
    with pytest.raises(DamagedArtifact, match="cannot be read"):
        open_artifact(tmp_path / "pill")
    record.unlink()
    with pytest.raises(NotAnArtifact, match=r"it holds no lineage\.json"):
        open_artifact(tmp_path / "pill")


def test_a_record_with_an_unknown_key_is_not_guessed_at(tmp_path):
    brew(tmp_path / "pill")
    record = tmp_path / "pill" / lineage.NAME
    record.write_text(json.dumps(json.loads(record.read_text()) | {"colour": "red"}))
    with pytest.raises(DamagedArtifact, match="colour"):
        open_artifact(tmp_path / "pill")


def test_another_kind_is_refused_by_name(tmp_path):
    brew(tmp_path / "pill")
    with pytest.raises(NotAnArtifact, match=r"is a pill, made by `danlu brew`; this needs a model or adapter"):
        open_artifact(tmp_path / "pill", "model", "adapter")


def test_the_work_folder_stands_beside_the_output(tmp_path):
    assert work_folder(tmp_path / "model") == tmp_path / "model.run"
