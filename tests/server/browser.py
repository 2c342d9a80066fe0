"""A real Chromium for tests, driven over its own protocol through two pipes: nothing to install but the browser itself.

Chromium reads commands on descriptor 3 and writes answers on descriptor 4 (--remote-debugging-pipe): JSON ended by a zero byte.
Keys and clicks are the browser's own input events, so focus, tab order and default actions are what a reader would get.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--disable-default-apps", "--no-default-browser-check", "--mute-audio", "--hide-scrollbars",
    "--lang=en-GB", "--force-color-profile=srgb", "--disable-features=Translate,MediaRouter,OptimizationHints",
)  # fmt: skip

KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "ArrowLeft": (37, ""), "ArrowRight": (39, ""), "Home": (36, ""),
        "End": (35, ""), "/": (191, "/"), "0": (48, "0"), "1": (49, "1"), "2": (50, "2"), "=": (187, "="), "s": (83, "s"),
        "u": (85, "u")}  # fmt: skip


def executable() -> str | None:
    """Where Chromium is: the variable CHROMIUM, or a usual name on the path."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Browser:
    """The process. `page()` opens a page with storage of its own."""

    def __init__(self, path: str):
        self.home = tempfile.mkdtemp(prefix="danlu-chromium-")
        ours_read, theirs_write = os.pipe()
        theirs_read, ours_write = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (theirs_read, theirs_write)]  # out of the way of 3 and 4
        for end in (theirs_read, theirs_write):
            os.close(end)
        silent = os.open(os.devnull, os.O_RDWR)
        self.process = os.posix_spawn(
            path, [path, *FLAGS, f"--user-data-dir={self.home}/profile", "about:blank"], {**os.environ, "HOME": self.home},
            file_actions=[(os.POSIX_SPAWN_DUP2, silent, 1), (os.POSIX_SPAWN_DUP2, silent, 2), (os.POSIX_SPAWN_DUP2, high[0], 3),
                          (os.POSIX_SPAWN_DUP2, high[1], 4)],
            setpgroup=0,
        )  # fmt: skip
        for end in (*high, silent):
            os.close(end)
        self._read, self._write, self._rest, self._last = ours_read, ours_write, b"", 0
        self.events: list[dict[str, Any]] = []
        self.downloads = Path(self.home) / "downloads"
        self.downloads.mkdir()

    def call(self, method: str, session: str | None = None, timeout_s: float = 20, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is kept in `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._next(deadline - time.monotonic(), method)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error'].get('message')}")
                return answer.get("result", {})
            if "method" in answer:
                self.events.append(answer)

    def _next(self, left_s: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(left_s, 0))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError(f"Chromium does not answer {waiting_for}" if not ready else "Chromium has ended")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def page(self, width: int = 1280, height: int = 800) -> "Page":
        context = self.call("Target.createBrowserContext", disposeOnDetach=True)["browserContextId"]
        self.call("Browser.setDownloadBehavior", behavior="allow", browserContextId=context, downloadPath=str(self.downloads))
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context, width=width, height=height)[
            "targetId"
        ]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, context, width, height)

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self.call("Browser.close", timeout_s=3)
        with contextlib.suppress(OSError):
            os.killpg(self.process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, 0)
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self.home, ignore_errors=True)


class Page:
    """A page and what a reader can do with it."""

    def __init__(self, browser: Browser, session: str, context: str, width: int, height: int):
        self.browser, self.session, self.context = browser, session, context
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def size(self, width: int, height: int, scale: float = 1, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefers(self, **features: str) -> None:
        """prefers(color_scheme="dark", reduced_motion="reduce")"""
        listed = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=listed)

    def speaks(self, language: str) -> None:
        """What the browser says the reader's language is; before `go`."""
        self.call("Page.addScriptToEvaluateOnNewDocument",
                  source=f"Object.defineProperty(navigator, 'language', {{get: () => {language!r}}})")  # fmt: skip

    def go(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && !!document.querySelector('#view')?.childElementCount")

    def run(self, script: str) -> Any:
        """The value of an expression; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True,
                          allowUnsafeEvalBlockedByCSP=False)  # fmt: skip
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise AssertionError(f"{details.get('exception', {}).get('description', details['text'])}\n  in {script}")
        return found["result"].get("value")

    def until(self, script: str, timeout_s: float = 10) -> Any:
        """Wait until an expression is true and give its value."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(RuntimeError):  # the page is just being replaced
                if found := self.run(script):
                    return found
            if time.monotonic() > deadline:
                shown = self.run("document.body?.innerText.slice(0, 1500)")
                raise AssertionError(f"not within {timeout_s} s: {script}\nthe page shows:\n{shown}")
            time.sleep(0.03)

    def text(self, selector: str = "body") -> str:
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def sees(self, words: str, selector: str = "body", timeout_s: float = 10) -> None:
        """Wait until words stand in an element."""
        quoted = json.dumps(selector), json.dumps(words)
        self.until(
            f"[...document.querySelectorAll({quoted[0]})]"
            f".some((one) => (one.innerText ?? one.textContent).includes({quoted[1]}))",
            timeout_s,
        )

    def place(self, selector: str, words: str = "") -> dict[str, float]:
        """Where the first visible element is that fits; with `words`, that shows or is labelled with them."""
        return self.until(
            f"""(() => {{
              const names = (one) => [one.innerText, one.getAttribute('aria-label'), one.title];
              const found = [...document.querySelectorAll({json.dumps(selector)})].find((one) =>
                one.getClientRects().length && names(one).some((text) => text?.includes({json.dumps(words)})));
              if (!found || found.disabled) return null;
              found.scrollIntoView({{block: 'center', inline: 'center', behavior: 'instant'}});
              const box = found.getClientRects()[0];
              return {{x: box.x + box.width / 2, y: box.y + box.height / 2}};
            }})()"""
        )

    def mouse(self, kind: str, place: dict[str, float]) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def click(self, selector: str, words: str = "") -> None:
        """Click the first visible element that fits."""
        place = self.place(selector, words)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, place)

    def move(self, selector: str, across: float = 0.5) -> None:
        """Put the pointer over an element."""
        place = self.run(f"(() => {{const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                         f"return {{x: box.x + box.width * {across}, y: box.y + box.height / 2}}}})()")  # fmt: skip
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **place)

    def write(self, text: str) -> None:
        """Text into what has the focus, as an input method puts it there."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, shift: bool = False) -> None:
        code, text = KEYS[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def choose(self, selector: str, value: str) -> None:
        """Choose from a list."""
        self.until(
            f"[...document.querySelector({json.dumps(selector)})?.options ?? []].some((one) => one.value === {json.dumps(value)})"
        )
        self.run(f"(() => {{const list = document.querySelector({json.dumps(selector)}); list.value = {json.dumps(value)};"
                 f"list.dispatchEvent(new Event('change', {{bubbles: true}}))}})()")  # fmt: skip

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """What the browser complained of: errors, refused resources, breaches of the policy, exceptions."""
        self.run("1")  # what is on its way arrives before the answer
        found = []
        for event in (one for one in self.browser.events if one.get("sessionId") == self.session):
            what = event["params"]
            if event["method"] == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
                found.append(f"{what['entry']['text']} {what['entry'].get('url', '')}".strip())
            elif event["method"] == "Runtime.exceptionThrown":
                details = what["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Runtime.consoleAPICalled" and what["type"] in ("error", "assert"):
                found.append(str(what["args"]))
            elif event["method"] == "Page.javascriptDialogOpening":
                found.append(f"dialog: {what['message']}")
        return found

    def close(self) -> None:
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)
        self.browser.events = [event for event in self.browser.events if event.get("sessionId") != self.session]
