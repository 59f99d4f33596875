from __future__ import annotations

import json
import mimetypes
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, WebSocket, sync_playwright

from tests.browser.clips import write_camera, write_video
from tests.conftest import SHARED
from tests.test_process import serving

SCREENSHOTS = Path(__file__).parents[2] / "artifacts" / "browser"
# Where other work has the cores, a page of three pictures takes its time.
TIMEOUT_MS = 50_000


class Tab:
    """A page at a server, with whatever it said that a good page does not say."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.faults: list[str] = []
        self.messages: list[dict[str, Any]] = []
        """What the server said on streams."""
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._asked)
        page.on("websocket", self._streams)
        page.goto(url)

    def text(self, selector: str) -> str:
        return " ".join(self.page.locator(selector).inner_text().split())

    def figures(self) -> dict[str, int]:
        names = ("sent", "answered", "dropped", "errors", "lost")
        script = "names => names.map(name => Number(document.getElementById(name).textContent))"
        return dict(zip(names, self.page.evaluate(script, list(names)), strict=True))

    def wait_for(self, script: str) -> None:
        """Wait until an expression is true; Playwright's own wait would need `unsafe-eval`."""
        self.wait_until(lambda: self.page.evaluate(f"Boolean({script})"), script)

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + TIMEOUT_MS / 1000
        while not holds():
            assert time.monotonic() < until, what
            self.page.wait_for_timeout(50)

    def choose(self, *files: Path | dict[str, Any]) -> None:
        self.page.set_input_files("#files", [_named(file) for file in files])

    def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def _heard(self, message: ConsoleMessage) -> None:
        # Chromium says so of each answer that is an error; the page must tell of it in its words.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url, f"blob:{self.url}")):
            self.faults.append(f"outside: {request.url}")

    def _streams(self, socket: WebSocket) -> None:
        if not socket.url.startswith(self.url.replace("http", "ws")):
            self.faults.append(f"outside: {socket.url}")
        socket.on("framereceived", lambda text: self.messages.append(json.loads(text)))


def _named(file: Path | dict[str, Any]) -> dict[str, Any]:
    if isinstance(file, dict):
        return file
    kind = mimetypes.guess_type(file)[0]
    return {"name": file.name, "mimeType": kind, "buffer": file.read_bytes()}


Opener = Callable[..., Tab]


@pytest.fixture(scope="package")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing")
        pytest.skip("chromium is missing")
    return found


@pytest.fixture(scope="package")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    talking = SHARED / "data" / "media" / "talking_head.mp4"
    clip = write_camera(
        tmp_path_factory.mktemp("camera") / "camera.mjpeg", talking if talking.is_file() else None
    )
    flags = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
        # A host that is not this computer: browsers trust it less.
        "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
    ]
    # For this package alone: Playwright keeps a loop running, beside which no other test's can run.
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=flags) as browser,
    ):
        yield browser


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    """A server of the committed models, warmed up for no more than a page asks of it."""
    with serving("--slots", "1", "--max-batch-size", "2") as (_, url):
        yield url


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """A tab of its own; at the end it must have said no error and asked nobody else."""
    with browser.new_context(**options) as context:
        tab = Tab(context.new_page(), f"{url}/")
        yield tab
        assert tab.faults == []


@pytest.fixture
def tab(browser: Browser, server: str) -> Iterator[Tab]:
    with opened(browser, server, viewport={"width": 1280, "height": 900}) as tab:
        yield tab


@pytest.fixture
def open_tab(browser: Browser, server: str) -> Iterator[Opener]:
    """Open a tab with options of Playwright's `new_context`, or at another server's `url`."""
    with ExitStack() as stack:

        def open_one(url: str = server, **options: Any) -> Tab:
            return stack.enter_context(opened(browser, url, **options))

        yield open_one


@pytest.fixture(scope="package")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.webm")
