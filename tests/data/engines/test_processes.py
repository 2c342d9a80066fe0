import os

import pytest

from danlu.core.errors import BadInput, DanluError
from danlu.data.engines import ENGINES
from danlu.data.engines import processes as module
from danlu.data.engines.sequential import Sequential
from danlu.data.plan import plan
from danlu.data.sources import Found
from danlu.data.steps import Steps


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SMALL_BYTES", 0)
    found = []
    for number in range(3):
        path = tmp_path / f"{number}.txt"
        path.write_text(f"text number {number}\n" * 50)
        found.append(Found("s", path.name, path.name, str(path), "txt"))
    return [(shard, tmp_path / f"{shard.number}.parquet") for shard in plan(found, {}, 1000)]


def processes(**settings):
    return ENGINES.build(ENGINES["processes"].Config(workers=2, **settings))


def test_every_shard_is_measured_once(work):
    done = list(processes().measure(Steps(), work))
    assert sorted(shard.number for shard in done) == [shard.number for shard, _ in work] == [0, 1, 2]
    assert all(path.is_file() for _, path in work)


def test_workers_do_without_pandas_where_it_is_installed(work, tmp_path, monkeypatch):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "pandas.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n__version__ = '3.0.0'\n")
    monkeypatch.setattr(Sequential, "measure", lambda *_: iter(()))  # all work is the child's
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "path"), os.environ.get("PYTHONPATH", "")]))
    assert len(list(processes().measure(Steps(), work))) == 3
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("engine", ["processes", "sequential"])
def test_a_file_that_is_gone_meanwhile_is_an_error_and_not_noted_as_bad(work, tmp_path, engine):
    (tmp_path / "1.txt").unlink()
    with pytest.raises(BadInput, match=r"1\.txt was found and can no longer be read"):
        list(ENGINES.build(ENGINES[engine].Config()).measure(Steps(), work))
    assert not work[1][1].exists()


def test_a_failure_in_a_worker_is_raised_here(work, monkeypatch):
    monkeypatch.setattr(Sequential, "measure", lambda *_: iter(()))  # all work is the child's
    monkeypatch.setattr(module, "shard_as_dict", lambda shard: {"number": shard.number})
    with pytest.raises(RuntimeError, match=r"a data worker failed(.|\n)*KeyError"):
        list(processes().measure(Steps(), work))


def test_this_process_works_too(work, monkeypatch):
    monkeypatch.setattr(module, "_feed", lambda *_: None)  # no child ever asks for work
    assert len(list(processes().measure(Steps(), work))) == 3


def test_a_killed_worker_is_an_error_that_says_how_to_go_on(work, monkeypatch):
    start = module._Worker.__init__

    def doomed(self, steps):
        start(self, steps)
        self._process.kill()

    monkeypatch.setattr(module._Worker, "__init__", doomed)
    with pytest.raises(DanluError, match="run the same command again"):
        list(processes().measure(Steps(), work))
