"""axe-core on the page with something in it: light, dark, on a phone, and with its dialog."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.clips import PHOTO
from tests.browser.conftest import Opener, Tab

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 320, "height": 640}


def faults(tab: Tab) -> list[str]:
    """What is serious or critical, and where."""
    violations = Axe().run(tab.page).response["violations"]
    return [
        f"{violation['id']}: {node['html']} {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize(
    ("name", "scheme", "size"),
    [("light", "light", DESK), ("dark", "dark", DESK), ("phone", "light", PHONE)],
)
def test_no_serious_fault(open_tab: Opener, name: str, scheme: str, size: dict[str, int]) -> None:
    tab = open_tab(color_scheme=scheme, viewport=size, reduced_motion="reduce")
    assert faults(tab) == []
    bad = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    tab.choose(PHOTO, bad)
    tab.wait_for("document.querySelector('.failed')")
    tab.page.click(".why")
    tab.wait_for("document.querySelectorAll('.reasons button').length === 3")
    tab.page.click("summary")
    assert faults(tab) == []
    tab.page.click(".strip button:nth-child(2)")
    tab.page.locator("#notice").wait_for()
    assert faults(tab) == []
    tab.shoot(name)
    width = tab.page.evaluate("document.documentElement.scrollWidth")
    assert width <= size["width"]
