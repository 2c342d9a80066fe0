"""What this machine is, for lineage records, benchmark results and `danlu doctor`."""

import contextlib
import functools
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_VERSIONS = ("danlu", "torch", "numpy", "tokenizers", "tiktoken", "rustbpe", "safetensors", "pyarrow", "daft", "pydantic")


@functools.cache
def describe() -> dict[str, Any]:
    """Processor, cores, memory, system and the versions of the libraries that shape results. Imports none of them."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _VERSIONS if (found := version(name))},
    }


def version(package: str) -> str | None:
    """Installed version of a distribution, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Processors this process may use (affinity and cgroup quota respected)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, round(int(quota) / int(period))))


def memory_bytes() -> int:
    """Bytes of memory this process may use (cgroup limit respected)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))


def resident_bytes() -> int:
    """Bytes of memory this process holds now; its peak where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """Most bytes of memory this process has held."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: platform answers below
    return platform.processor() or platform.machine()


def give_memory_back() -> None:
    """Return memory that was freed to the system, where the C library would keep it (glibc); elsewhere nothing happens.

    After weights were packed into another form a third of the process is such memory.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
