"""A model folder as an input of other artefacts, whether Danlu made it or not."""

import hashlib
from pathlib import Path

from danlu.core import files, lineage
from danlu.core.artifact import open_artifact
from danlu.core.lineage import Input


def model_input(path: Path, role: str = "model") -> Input:
    """By its id where it has a lineage record; a folder of another tool's by a hash over its configuration and weights."""
    if (path / lineage.NAME).is_file():
        return open_artifact(path).as_input(role)
    digest = hashlib.sha256()
    parts = sorted([*path.glob("config.json"), *path.glob("*.safetensors"), *path.glob("tokenizer.json")])
    for part in parts:
        digest.update(f"{part.name}\0{files.sha256(part)}\n".encode())
    total = sum(part.stat().st_size for part in parts)
    return Input(role=role, id=f"sha256:{digest.hexdigest()}", path=str(path.resolve()), bytes=total)
