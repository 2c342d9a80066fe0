"""What a command changes for its own process, and nowhere else."""

import subprocess
import sys

import pytest

from danlu.cli import main
from danlu.core import process

pytest.importorskip("pandas", reason="pandas is missing: pip install pandas")

PROGRAM = """
import sys
from danlu.data.lean import lean
lean()
import pyarrow as pa
assert pa.array(["a", None]).null_count == 1 and pa.default_memory_pool().backend_name == "system"
assert "pandas" not in sys.modules
import pandas
assert pa.table({"x": [2, 3]}).to_pandas()["x"].sum() == 5
assert pa.array(pandas.Series(["a", None])).null_count == 1
"""

COMMAND = """
import sys
from danlu import cli
from danlu.core import process
sys.argv = ["danlu", "list"]
assert cli.main() == 0 and process.ours
"""


def test_pyarrow_does_without_pandas_until_somebody_wants_it():
    assert subprocess.run([sys.executable, "-c", PROGRAM]).returncode == 0


def test_only_a_command_changes_its_process(capsys):
    assert main(["list"]) == 0 and not process.ours
    assert subprocess.run([sys.executable, "-c", COMMAND], stdout=subprocess.DEVNULL).returncode == 0
