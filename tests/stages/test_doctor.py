"""`danlu doctor` says what is there, what is missing and how to get it."""

from danlu.cli import main
from danlu.core import machine
from danlu.stages import doctor as stage


def test_everything_looked_up_is_shown(capsys, tmp_path):
    assert main(["doctor", "--measure", "no", "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for expected in ("processor", "cores", "memory", "torch", str(tmp_path), "extras", "suggestions"):
        assert expected in shown
    assert "GFLOP/s" not in shown


def test_speeds_are_measured(monkeypatch):
    monkeypatch.setattr("danlu.train.speed.matmul_flops", lambda dtype: {"float32": 5e10, "bfloat16": 1e11}[str(dtype)[6:]])
    monkeypatch.setattr("danlu.train.speed.memory_bandwidth", lambda: 7e9)
    assert stage.measured() == {"float32 products": "50 GFLOP/s", "bfloat16 products": "100 GFLOP/s (2.0 x float32)",
                                "memory copying": "7.0 GB/s"}  # fmt: skip


def test_a_missing_extra_is_named_with_its_command(monkeypatch, capsys):
    known = machine.version
    monkeypatch.setattr(machine, "version", lambda name: None if name == "tensorboard" else known(name))
    assert stage.missing_extras()["tensorboard"] == ["tensorboard"]
    assert main(["doctor", "--measure", "no"]) == 0
    assert "missing tensorboard: pip install 'danlu[tensorboard]'" in capsys.readouterr().out


def test_threads_that_are_held_back_and_little_room_are_pointed_out(monkeypatch, tmp_path):
    found = {"accelerator": "none"}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(machine, "cores", lambda: 7)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2_000_000_000)
    monkeypatch.setattr("danlu.core.files.free_bytes", lambda path: 1_000_000_000)
    said = "\n".join(stage.suggestions(found, {}, tmp_path))
    assert "OMP_NUM_THREADS=1" in said and "disk" in said and "memory" in said


def test_processor_features_are_read_where_the_system_says_them():
    assert set(stage.instructions()) <= set(stage._FLAGS)
