"""Servers that ask for a key, that stop, and that come back."""

from __future__ import annotations

import signal
from urllib.parse import urlsplit

from tests.browser.clips import PHOTO
from tests.browser.conftest import Opener
from tests.test_process import serving

KEY = "open-sesame"
SMALL = (
    *("--models", "mini_xception_emotion", "--default-models", "mini_xception_emotion"),
    *("--slots", "1", "--max-batch-size", "1"),
)
ANSWERED = "Number(document.getElementById('answered').textContent) > {}"


def test_key_then_a_server_that_stops_and_comes_back(open_tab: Opener) -> None:
    flags = (*SMALL, "--api-keys", KEY)
    with serving(*flags) as (process, url):
        tab = open_tab(url)
        page = tab.page
        key = page.locator("dialog input[name=key]")
        key.fill("wrong")
        key.press("Enter")
        page.get_by_text("did not take this key").wait_for()
        key.fill(KEY)
        key.press("Enter")
        page.locator("dialog").wait_for(state="hidden")
        tab.choose(PHOTO)
        tab.wait_for("document.querySelector('.card')")
        kept = page.evaluate("[Object.values(sessionStorage), Object.keys(localStorage)]")
        assert kept == [[KEY], []]
        assert page.context.cookies() == []

        page.click("#camera")
        tab.wait_for(ANSWERED.format(1))
        process.send_signal(signal.SIGTERM)
        page.get_by_text("Trying again").wait_for()
        tab.shoot("trouble")
        process.wait(30)
    # Chromium tells of each try that finds nobody.
    with serving(*flags, "--port", str(urlsplit(url).port)):
        tab.wait_for(ANSWERED.format(tab.figures()["answered"] + 1))
        assert not page.locator("#notice").is_visible()
    page.click("#camera")
    tab.faults = [fault for fault in tab.faults if "WebSocket connection to" not in fault]


def test_without_a_server_it_says_so(open_tab: Opener) -> None:
    with serving(*SMALL) as (process, url):
        tab = open_tab(url)
        tab.wait_for("document.querySelector('#attributes input')")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    tab.choose(PHOTO)
    tab.page.locator("#notice [role=alert]").wait_for()
    assert "The server cannot be reached." in tab.text("#notice p")
