"""Text behind an address (https://, s3://, hf://, and whatever else fsspec knows), copied here before it is read."""

import hashlib
from pathlib import Path

from danlu.core.errors import BadInput
from danlu.core.log import say

_PACKAGES = {
    "s3": "s3fs",
    "hf": "huggingface_hub",
    "https": "aiohttp",
    "http": "aiohttp",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
}


def is_address(word: str) -> bool:
    """Whether a source word is an address rather than a local path."""
    scheme, colon, _ = word.partition("://")
    return bool(colon) and scheme.isalnum() and len(scheme) > 1


def fetch(address: str, folder: Path) -> tuple[Path, str]:
    """The local copy of a file, a folder or a glob behind an address, and the address its keys are relative to.

    What is there already is not fetched again. Raises BadInput when the protocol or the address does not answer.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # comes with torch

    scheme = address.partition("://")[0]
    try:
        files, root = url_to_fs(address)
        found = (
            [address] if scheme in ("http", "https") else sorted(map(str, files.glob(root) if "*" in root else files.find(root)))
        )
    except (ImportError, ValueError) as error:
        hint = f"pip install {_PACKAGES[scheme]}" if scheme in _PACKAGES else "use a local path, https://, s3:// or hf://"
        raise BadInput(f"{address}: cannot be read here ({error}). Try: {hint}.") from None
    except OSError as error:
        raise BadInput(f"{address}: no answer ({error}). Check the address and the network, or download it yourself.") from None
    if not found:
        raise BadInput(f"{address}: nothing is there.")
    base = _base(root, found)
    local = folder / hashlib.blake2b(address.encode(), digest_size=8).hexdigest()
    for path in found:
        place = local / path.removeprefix(base).lstrip("/").split("?")[0]
        if not place.exists():
            say(f"fetching {path}")
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(place.name + ".partial")
            try:
                files.get_file(path, str(aside))
            except Exception as error:  # every protocol has its own kinds
                raise BadInput(f"{path}: could not be fetched ({type(error).__name__}: {error}).") from error
            aside.replace(place)
    if len(found) == 1:
        return place, address.rpartition("/")[0]
    return local, address.split("*")[0].rstrip("/")


def _base(root: str, found: list[str]) -> str:
    if len(found) == 1:
        return found[0].rpartition("/")[0]
    return root.split("*")[0].rpartition("/")[0] if "*" in root else root
