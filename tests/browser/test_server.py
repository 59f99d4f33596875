"""Servers that ask for a key, that stop, and that come back."""

from __future__ import annotations

import signal
from urllib.parse import urlsplit

from tests.browser.axe import faults
from tests.browser.clips import PHOTO
from tests.browser.conftest import Opener
from tests.test_process import serving

# Neither ASCII nor Latin-1: headers hold its UTF-8.
KEY = "сезам"
SMALL = (
    *("--models", "mini_xception_emotion", "--default-models", "mini_xception_emotion"),
    *("--slots", "1", "--max-batch-size", "1"),
)
ANSWERED = "Number(document.getElementById('answered').textContent) > {}"


def test_a_key_and_a_server_that_stops_comes_back_and_is_gone(open_tab: Opener) -> None:
    flags = (*SMALL, "--api-keys", KEY)
    with serving(*flags) as (process, url):
        tab = open_tab(url)
        page = tab.page
        key = page.locator("dialog input[name=key]")
        key.wait_for()
        assert faults(page) == []
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Without a key this server answers nothing.").wait_for()
        tab.choose(PHOTO)
        key.wait_for()
        key.fill("ключ")
        key.press("Enter")
        page.get_by_text("did not take this key").wait_for()
        key.fill(KEY)
        key.press("Enter")
        page.locator("dialog").wait_for(state="hidden")
        tab.wait_for("document.querySelector('.card')")
        # What is served is asked for again, too.
        tab.wait_for("document.querySelector('#models input')")
        kept = page.evaluate("[Object.values(sessionStorage), Object.keys(localStorage)]")
        assert kept == [[KEY], []]
        assert page.context.cookies() == []

        page.click("#camera")
        tab.wait_for(ANSWERED.format(1))
        process.send_signal(signal.SIGTERM)
        page.get_by_text("Trying again").wait_for()
        tab.shoot("trouble")
        process.wait(30)
    with serving(*flags, "--port", str(urlsplit(url).port)):
        tab.wait_for(ANSWERED.format(tab.figures()["answered"] + 1))
        assert not page.locator("#notice").is_visible()
        page.click("#camera")
    tab.choose(PHOTO)
    page.get_by_text("The server cannot be reached.").wait_for()
    # Chromium tells of each try that finds nobody.
    tab.faults = [fault for fault in tab.faults if "WebSocket connection to" not in fault]
