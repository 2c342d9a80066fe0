"""What the machine says of itself is true enough to plan with."""

import json
import os
import subprocess
import sys

from danlu.core import machine


def test_the_description_is_plain_data_with_the_facts_that_shape_results():
    found = machine.describe()
    assert json.loads(json.dumps(found)) == found
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["processor"] and found["architecture"] and found["python"].count(".") == 2
    assert found["versions"]["torch"] and "danlu" in found["versions"]


def test_describing_loads_no_library():
    program = (
        "import sys\nfrom danlu.core.machine import describe\ndescribe()\nprint('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


def test_a_library_that_is_absent_has_no_version():
    assert machine.version("no-such-library-anywhere") is None


def test_memory_grows_with_what_is_held_and_its_peak_stays():
    before = machine.resident_bytes()
    held = bytearray(50_000_000)
    held[::4096] = b"x" * len(held[::4096])  # touched, so that it counts
    assert machine.resident_bytes() - before > 40_000_000
    assert machine.memory_bytes() >= machine.peak_bytes() >= machine.resident_bytes() * 0.9
    del held
    assert machine.peak_bytes() - before > 40_000_000


def test_a_quota_of_the_container_bounds_cores_and_memory(monkeypatch):
    answers = {"/sys/fs/cgroup/cpu.max": "150000 100000\n", "/sys/fs/cgroup/memory.max": "1000000\n"}
    monkeypatch.setattr(machine.Path, "read_text", lambda path, *more: answers[str(path)])
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(7)), raising=False)
    assert machine.cores() == 2 and machine.memory_bytes() == 1_000_000
    answers |= {"/sys/fs/cgroup/cpu.max": "max 100000\n", "/sys/fs/cgroup/memory.max": "max\n"}
    assert machine.cores() == 7 and machine.memory_bytes() > 1_000_000


def test_memory_that_was_freed_goes_back_or_nothing_happens():
    """The C library may have no such call; then nothing is wrong either."""
    from danlu.core.machine import give_memory_back

    kept = [bytearray(4096) for _ in range(2000)]
    del kept
    assert give_memory_back() is None
