"""Two processes learn from their own answers what one learns: each writes a share of the same answers."""

import json
import subprocess
import sys

import pytest
import torch
from tests.train import policy_worker


def started(folder, name, processes):
    folder.mkdir()
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), policy_worker.__file__]
    done = subprocess.run([sys.executable, *words, str(folder), name], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_learn_what_one_learns(tmp_path, name="ppo"):
    (tmp_path / "one").mkdir()
    policy_worker.main(tmp_path / "one", name)
    started(tmp_path / "two", name, 2)
    one, two = (json.loads((tmp_path / which / "told.json").read_text()) for which in ("one", "two"))
    assert (one["answers"], one["lengths"], one["rewards"]) == (two["answers"], two["lengths"], two["rewards"])
    assert two["advantages"] == pytest.approx(one["advantages"], rel=1e-3, abs=1e-4)
    assert two["state"] == pytest.approx(one["state"], rel=1e-4)
    assert [part["answers"] for part in two["judged"]] == [10, 10]
    assert two["judged"][1] == pytest.approx(one["judged"][1])
    expected, found = (torch.load(tmp_path / which / "weights.pt") for which in ("one", "two"))
    for key, part in expected.items():
        torch.testing.assert_close(found[key], part, rtol=1e-3, atol=1e-4, msg=key)
