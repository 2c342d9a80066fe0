"""One server for most tests: a model that writes good text, one without a chat template, and an id with a slash."""

import pytest
from tests.server.running import made_service, serving
from tests.server.speaker import write_speaker
from tests.tiny import write_tiny

from danlu.engine.opening import Serving
from danlu.server.limits import Limits
from danlu.server.models import Served


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of the models."""
    root = tmp_path_factory.mktemp("served")
    write_speaker(root / "speaker")
    write_tiny(root / "base", max_position_embeddings=64)
    return root


@pytest.fixture(scope="session")
def live(folders):
    """The server; it takes no key."""
    served = [Served("speaker", folders / "speaker"), Served("org/base", folders / "base")]
    service = made_service(
        *served, serving=Serving(rows=8, waiting=64, cache_tokens=8192), limits=Limits(ping_s=5, answer_tokens=8192)
    )
    with serving(service) as running:
        yield running


@pytest.fixture(scope="session")
def client(live):
    """OpenAI's client for it."""
    return live.client()
