"""axe-core on the page, empty, with a photo and with a message: light, dark, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator

from tests.browser.axe import faults
from tests.browser.clips import PHOTO
from tests.browser.conftest import Opener, Tab

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 320, "height": 640}


def looks(tab: Tab) -> Iterator[str]:
    for name, scheme, size in (("light", "light", DESK), ("dark", "dark", DESK)):
        tab.page.emulate_media(color_scheme=scheme)
        tab.page.set_viewport_size(size)
        yield name
    tab.page.set_viewport_size(PHONE)
    yield "phone"


def test_no_serious_fault(open_tab: Opener) -> None:
    # Colours that are on their way to others have no contrast of their own.
    tab = open_tab(reduced_motion="reduce")
    assert faults(tab.page) == []
    bad = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    tab.choose(PHOTO, bad)
    tab.wait_for("document.querySelector('.failed')")
    tab.page.click(".why")
    tab.wait_for("document.querySelectorAll('.reasons button').length === 3")
    tab.page.click("summary")
    tab.page.fill("input[name=threshold]", "7")
    tab.page.press("input[name=threshold]", "Tab")
    tab.page.get_by_text("Enter a number from 0 to 1").wait_for()
    for name in looks(tab):
        assert faults(tab.page) == [], name
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        tab.shoot(name)
    tab.page.click(".strip .item:nth-child(2) .pick")
    tab.page.locator("#notice").wait_for()
    for name in looks(tab):
        assert faults(tab.page) == [], name
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
