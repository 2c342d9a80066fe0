"""Asking as a reader does."""

from tests.server.browser import Page

BOX = ".composer-text"


def ask(page: Page, text: str) -> None:
    page.click(BOX)
    page.write(text)
    page.press("Enter")


def answered(page: Page, count: int = 1) -> None:
    page.until(f"document.querySelectorAll('.answer.done').length === {count}")
