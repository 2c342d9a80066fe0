"""One browser and one scripted server for all tests of the page."""

from collections.abc import Iterator

import pytest
from tests.server.browser import Browser, Page, executable
from tests.server.fake_backend import Fake, serving


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = executable()
    if path is None:
        pytest.skip("Chromium is missing: apt-get install chromium, or set CHROMIUM to the path of a Chromium or Chrome")
    found = Browser(path)
    yield found
    found.close()


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Fake, str]]:
    """One server for all tests, and its address."""
    fake = Fake()
    with serving(fake.app()) as address:
        yield fake, address


@pytest.fixture
def fake(stage: tuple[Fake, str]) -> Fake:
    """The server as it is at first."""
    stage[0].forget()
    return stage[0]


@pytest.fixture
def address(stage: tuple[Fake, str]) -> str:
    return stage[1]


@pytest.fixture
def page(browser: Browser, fake: Fake, address: str) -> Iterator[Page]:
    """The studio, opened; at the end of each test the browser must have had nothing to complain of."""
    opened = browser.page()
    opened.speaks("en-GB")
    opened.go(address)
    yield opened
    complaints = opened.complaints()
    opened.close()
    assert complaints == []
