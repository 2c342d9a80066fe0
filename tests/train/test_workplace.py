"""A work folder belongs to one run and one process."""

import pytest

from danlu.core.errors import WorkFolderMismatch
from danlu.train.workplace import Workplace

IDENTITY = {"seed": 0, "optimiser": {"name": "adamw", "learning_rate": 0.002}, "dataset": "abc"}


def filled(folder):
    place = Workplace(folder)
    folder.mkdir()
    place.begin(IDENTITY, overwrite=False)
    (folder / "plan.json").write_text("{}")
    (folder / "checkpoints").mkdir()
    (folder / "tokens").mkdir()
    return place


def test_other_settings_are_refused_and_all_differences_listed(tmp_path):
    place = filled(tmp_path / "m.run")
    place.begin(IDENTITY, overwrite=False)
    with pytest.raises(WorkFolderMismatch) as refused:
        place.begin({"seed": 1, "optimiser": {"name": "adamw", "learning_rate": 0.1}, "dataset": "abc"}, overwrite=False)
    text = str(refused.value)
    assert "seed: 0 there, 1 now" in text and "optimiser.learning_rate: 0.002 there, 0.1 now" in text and "dataset" not in text
    assert "--overwrite" in text and (tmp_path / "m.run" / "plan.json").exists()


def test_overwrite_drops_another_run_but_goes_on_with_its_own(tmp_path):
    place = filled(tmp_path / "m.run")
    place.begin(IDENTITY, overwrite=True)
    assert (tmp_path / "m.run" / "checkpoints").exists(), "the same run, interrupted while it overwrote: go on"
    place.begin({**IDENTITY, "seed": 1}, overwrite=True)
    assert not (tmp_path / "m.run" / "checkpoints").exists() and (tmp_path / "m.run" / "tokens").exists()


def test_overwrite_starts_a_finished_run_anew(tmp_path):
    place = filled(tmp_path / "m.run")
    place.finish()
    place.begin(IDENTITY, overwrite=True)
    assert not (tmp_path / "m.run" / "plan.json").exists()


def test_two_processes_cannot_share_a_work_folder(tmp_path):
    with Workplace(tmp_path / "m.run").locked(), pytest.raises(WorkFolderMismatch, match="in use"):  # noqa: SIM117
        with Workplace(tmp_path / "m.run").locked():
            pass
    with Workplace(tmp_path / "m.run").locked():
        assert (tmp_path / "m.run").is_dir()
