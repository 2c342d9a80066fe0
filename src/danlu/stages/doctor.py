"""Look this machine over: processor, memory, disk, measured speed, missing extras, and what would help."""

import os
from importlib import metadata
from pathlib import Path

from danlu.core import files, machine
from danlu.core.settings import Settings
from danlu.core.units import size
from danlu.stages import STAGES

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16")
_TIGHT_DISK, _TIGHT_MEMORY = 5_000_000_000, 4_000_000_000


class Doctor(Settings):
    """Prints on stdout. Measuring takes about two seconds."""

    measure: bool = True
    """Time matrix products and memory; off, only what can be looked up is shown."""
    folder: Path = Path()
    """Whose disk to look at: where your data and models will lie."""


@STAGES.register
def doctor(config: Doctor) -> None:
    """Print what was found, section by section, and suggestions at the end."""
    found = {**look(config.folder), **(measured() if config.measure else {})}
    extras = missing_extras()
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {value}")
    print("\nextras")
    for name, packages in extras.items():
        state = f"missing {', '.join(packages)}: pip install 'danlu[{name}]'" if packages else "installed"
        print(f"  {name:{width - 2}}  {state}")
    print("\nsuggestions")
    for line in suggestions(found, extras, config.folder) or ["nothing to improve"]:
        print(f"  {line}")


def look(folder: Path) -> dict[str, str]:
    """What can be known without measuring."""
    import torch

    facts = machine.describe()
    cuda = torch.cuda.is_available()
    return {
        "danlu": facts["versions"].get("danlu", "unknown"),
        "python": f"{facts['python']} on {facts['system']}",
        "processor": facts["processor"],
        "cores": f"{facts['cores']} for this process",
        "instructions": ", ".join(instructions()) or "unknown",
        "memory": f"{size(facts['memory_bytes'])} for this process",
        "disk": f"{size(files.free_bytes(folder.resolve()))} free at {folder.resolve()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, kernels for {torch.backends.cpu.get_cpu_capability()}",
        "accelerator": torch.cuda.get_device_name() if cuda else "Apple Metal" if torch.backends.mps.is_available() else "none",
    }


def measured() -> dict[str, str]:
    """Speed of this machine now; other work on it counts against it."""
    import torch

    from danlu.train.speed import matmul_flops, memory_bandwidth

    plain, short = matmul_flops(torch.float32), matmul_flops(torch.bfloat16)
    return {
        "float32 products": f"{plain / 1e9:,.0f} GFLOP/s",
        "bfloat16 products": f"{short / 1e9:,.0f} GFLOP/s ({short / plain:.1f} x float32)",
        "memory copying": f"{memory_bandwidth() / 1e9:,.1f} GB/s",
    }


def instructions() -> list[str]:
    """Instruction sets that matter for matrix products, as the system names them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    line = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    present = set(line.partition(":")[2].split())
    return [flag for flag in _FLAGS if flag in present]


def missing_extras() -> dict[str, list[str]]:
    """Each extra of this package with the distributions that it would bring and that are not here."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("danlu") or []:
        requirement, _, mark = line.partition(";")
        extra = mark.partition("extra ==")[2].strip().strip("'\"")
        name = requirement.split("[")[0].split(">")[0].split("<")[0].split("=")[0].split("!")[0].split("~")[0].strip()
        if extra and name != "danlu":
            found.setdefault(extra, [])
            if machine.version(name) is None:
                found[extra].append(name)
    return found


def suggestions(found: dict[str, str], extras: dict[str, list[str]], folder: Path) -> list[str]:
    """What a person could do, most useful first."""
    lines = []
    if files.free_bytes(folder.resolve()) < _TIGHT_DISK:
        lines.append(f"less than {size(_TIGHT_DISK)} of disk is free at {folder.resolve()}: choose another place for --out")
    if machine.memory_bytes() < _TIGHT_MEMORY:
        lines.append(f"less than {size(_TIGHT_MEMORY)} of memory: keep budgets and vocabularies small")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) < machine.cores():
        lines.append(f"OMP_NUM_THREADS={threads} holds back {machine.cores()} cores: unset it for training")
    if found["accelerator"] == "none" and any(Path("/dev").glob("nvidia[0-9]*")):
        lines.append("an NVIDIA GPU is there, but this torch cannot use it: install torch with CUDA from pytorch.org")
    if any(extras.get(name) for name in ("zh", "repair", "tensorboard")):
        lines.append("every extra that works without a GPU at once: pip install 'danlu[all]'")
    return lines
