"""Optional real texts beside a checkout; tests that use them also run on small text of ours where they are missing."""

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path | None:
    """The path of a shared file or folder, or None where this machine does not have it."""
    path = _ROOT / name
    return path if path.exists() else None
