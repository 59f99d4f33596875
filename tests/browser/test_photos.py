"""Photos in the page: what is read off them, why, what is wrong with some, and what is saved."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.browser.clips import PHOTO, on_the_face
from tests.browser.conftest import Opener, Tab

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FIRST_BOX = ".boxes button"
ANALYSED = "document.querySelector('.card')"


def analysed(tab: Tab) -> Tab:
    tab.choose(PHOTO)
    tab.wait_for(ANALYSED)
    return tab


def test_a_photo_is_read(tab: Tab) -> None:
    analysed(tab)
    assert tab.text("#summary") == "1 face found."
    assert tab.text(".answers [data-head=emotion]").startswith("happy ")
    assert tab.text(".answers [data-head=gender]").startswith("female ")
    assert tab.text(".answers [data-head=age]").startswith("age ")
    bars = [row.split("\n") for row in tab.page.locator(".bars li").all_inner_texts()]
    assert {name for name, _ in bars} == set(EMOTIONS)
    assert 98 <= sum(int(share.removesuffix(" %")) for _, share in bars) <= 102
    assert re.fullmatch(r"Answered by \w+@[\d.]+(, \w+@[\d.]+)+\.", tab.text("#used"))
    tab.shoot("photo")


def test_the_box_lies_on_the_face_and_is_drawn_sharply(open_tab: Opener) -> None:
    tab = analysed(open_tab(viewport={"width": 1000, "height": 800}, device_scale_factor=2))
    frame = tab.page.locator("#frame").bounding_box()
    button = tab.page.locator(FIRST_BOX).bounding_box()
    scale = frame["width"] / 512
    left, top = button["x"] - frame["x"], button["y"] - frame["y"]
    assert on_the_face([value / scale for value in (left, top, button["width"], button["height"])])
    drawn = tab.page.evaluate(
        """([x, y]) => {
            const canvas = document.getElementById("overlay");
            const row = canvas.getContext("2d").getImageData(2 * x, 2 * y, 41, 1).data;
            return [canvas.width / canvas.clientWidth, row[3], row.at(-1)];
        }""",
        [left, top + button["height"] / 2],
    )
    density, on_the_line, inside = drawn
    assert density == pytest.approx(2, abs=0.01)
    assert on_the_line > 200
    assert inside == 0


def test_several_photos_and_one_that_is_none(tab: Tab) -> None:
    bad = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": PHOTO.read_bytes()[:9000]}
    text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
    tab.choose(PHOTO, bad, text)
    tab.page.locator("#notice [role=alert]").wait_for()
    assert tab.text("#notice p") == "notes.txt: this is neither a photo nor a video."
    tab.wait_for("document.querySelectorAll('.strip .failed').length === 1")
    states = tab.page.locator(".strip .state").all_inner_texts()
    assert states == ["1 face", "failed"]
    tab.page.click(".strip .item:nth-child(2) .pick")
    notice = tab.page.locator("#notice [role=alert]")
    notice.wait_for()
    assert notice.inner_text().startswith("broken.jpg: ")
    assert notice.inner_text().endswith(".")
    assert tab.page.locator(".card").count() == 0
    assert tab.page.locator("#save-json").is_disabled()
    tab.page.click(".strip .item:nth-child(1) .pick")
    tab.wait_for(ANALYSED)
    assert not tab.page.locator("#notice").is_visible()


def test_why(tab: Tab) -> None:
    analysed(tab)
    canvas = tab.page.locator("#frame")
    before = canvas.screenshot()
    tab.page.click(FIRST_BOX)
    tab.wait_for("document.querySelectorAll('.reasons button').length === 3")
    reasons = tab.page.locator(".reasons button")
    assert [text.split(":")[0] for text in reasons.all_inner_texts()] == [
        "emotion",
        "gender",
        "age",
    ]
    assert reasons.first.get_attribute("aria-pressed") == "true"
    explained = canvas.screenshot()
    assert explained != before
    tab.shoot("why")
    reasons.nth(1).click()
    assert reasons.nth(1).get_attribute("aria-pressed") == "true"
    assert canvas.screenshot() not in (before, explained)


def test_why_asked_again_takes_nothing_more(tab: Tab) -> None:
    analysed(tab)
    tab.page.evaluate(
        """() => {
            const make = URL.createObjectURL;
            window.made = 0;
            URL.createObjectURL = (blob) => (window.made++, make(blob));
        }"""
    )
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url))
    for _ in range(3):
        tab.page.click(".why")
        tab.page.locator(".reasons [aria-pressed=true]").wait_for()
        tab.page.click(".reasons [aria-pressed=true]")
    assert len(asked) == 1
    assert tab.page.evaluate("window.made") == 0
    sides = tab.page.locator(".reasons canvas").first.bounding_box()
    assert sides["width"] > 50
    assert sides["height"] > 50


def test_pictures_are_taken_off_the_page(tab: Tab) -> None:
    tab.choose(PHOTO, {"name": "two.jpg", "mimeType": "image/jpeg", "buffer": PHOTO.read_bytes()})
    tab.wait_for(ANALYSED)
    gone = tab.page.locator(".strip img").first.get_attribute("src")
    tab.page.get_by_role("button", name="Remove astronaut.jpg").click()
    tab.wait_for("document.getElementById('image').alt === 'two.jpg'")
    assert tab.page.locator(".strip .item").count() == 1
    assert tab.page.evaluate("url => fetch(url).then(() => 'there', () => 'revoked')", gone) == (
        "revoked"
    )
    tab.wait_for(ANALYSED)
    assert tab.page.evaluate("document.activeElement.className") == "pick"
    tab.page.keyboard.press("Delete")
    tab.page.locator("#welcome").wait_for()
    assert tab.page.locator(".card, .item").count() == 0
    assert not tab.page.locator("#strip").is_visible()
    assert tab.page.locator("#save-json").is_disabled()
    assert tab.page.evaluate("document.activeElement.id") == "choose"
    # It told of the address that is no more, and was asked for on purpose.
    tab.faults = [fault for fault in tab.faults if "blob:" not in fault]


def test_the_oldest_pictures_make_room(tab: Tab) -> None:
    def picture(number: int) -> dict:
        return {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}

    # What is wrong with the picture that is shown may be told in its place at once.
    tab.page.evaluate(
        """() => {
          const notice = document.getElementById("notice");
          window.told = "";
          new MutationObserver(() => { window.told += notice.textContent; }).observe(
            notice, { childList: true, subtree: true, characterData: true, attributes: true });
        }"""
    )
    tab.choose(*map(picture, range(98)))
    tab.choose(*map(picture, range(98, 103)))
    tab.wait_for("told.includes('The page holds 100 pictures at a time: 3 older ones left it.')")
    names = tab.page.locator(".strip .pick span:first-of-type").all_inner_texts()
    assert names == [f"{number}.jpg" for number in range(3, 103)]
    assert tab.text(".strip [aria-pressed=true] span:first-of-type") == "98.jpg"


def test_a_file_that_was_deleted_meanwhile(tab: Tab, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(PHOTO.read_bytes())
    tab.page.set_input_files("#files", copy)
    tab.wait_for(ANALYSED)
    copy.unlink()
    tab.page.click("summary")
    tab.page.uncheck("#attributes input[value=gender]")
    notice = tab.page.locator("#notice [role=alert]")
    notice.wait_for()
    assert notice.inner_text().startswith("copy.jpg: The file can no longer be read: ")


def test_settings_take_effect(tab: Tab) -> None:
    used = analysed(tab).text("#used")
    tab.page.click("summary")
    tab.page.uncheck("#attributes input[value=gender]")
    tab.wait_for("!document.querySelector('[data-head=gender]')")
    tab.page.check("#models input[value=vgg_emotion]")
    tab.wait_for("document.getElementById('used').textContent.includes('vgg_emotion@')")
    tab.page.fill("input[name=threshold]", "1")
    tab.page.press("input[name=threshold]", "Tab")
    tab.wait_for("document.getElementById('summary').textContent === 'No faces found.'")
    tab.page.click("button[type=reset]")
    tab.wait_for("document.querySelector('[data-head=gender]')")
    assert tab.text("#used") == used


def test_a_setting_that_cannot_be_is_not_sent(tab: Tab) -> None:
    analysed(tab)
    sent = []
    tab.page.on("request", lambda request: sent.append(request.url))
    tab.page.click("summary")
    fault = tab.page.locator("#threshold-fault")
    tab.page.fill("input[name=threshold]", "7")
    tab.page.press("input[name=threshold]", "Tab")
    fault.get_by_text("Enter a number from 0 to 1 in steps of 0.01.").wait_for()
    assert tab.page.locator("input[name=threshold]").get_attribute("aria-invalid") == "true"
    tab.page.uncheck("#attributes input[value=gender]")
    tab.wait_for("!document.querySelector('[data-head=gender]')")
    tab.page.fill("input[name=threshold]", "1")
    tab.page.press("input[name=threshold]", "Tab")
    tab.wait_for("document.getElementById('summary').textContent === 'No faces found.'")
    assert fault.inner_text() == ""
    thresholds = [re.findall(r"threshold=([^&]*)", url) for url in sent if "analyze" in url]
    assert thresholds == [[], ["1"]]


def test_what_is_shown_is_saved(tab: Tab, tmp_path: Path) -> None:
    analysed(tab)
    with tab.page.expect_download() as saved:
        tab.page.click("#save-json")
    assert saved.value.suggested_filename == "astronaut.json"
    saved.value.save_as(tmp_path / "answer.json")
    (face,) = json.loads((tmp_path / "answer.json").read_text())["faces"]
    assert face["emotion"]["label"] == "happy"
    with tab.page.expect_download() as saved:
        tab.page.click("#save-picture")
    assert saved.value.suggested_filename == "astronaut-faces.png"
    saved.value.save_as(tmp_path / "picture.png")
    drawn = cv2.imread(str(tmp_path / "picture.png")).astype(int)
    changed = np.abs(drawn - cv2.imread(str(PHOTO))).max(axis=2) > 60
    x, y, width, height = (round(face["box"][side]) for side in ("x", "y", "width", "height"))
    assert drawn.shape == (512, 512, 3)
    # The line is there, the face is as it was, and so is what is far from it.
    assert changed[y : y + height, x - 3 : x + 4].any(axis=1).mean() > 0.9
    assert changed[y + 15 : y + height - 15, x + 15 : x + width - 15].mean() < 0.02
    assert changed[200:].mean() < 0.001


def test_paste_and_drop(tab: Tab) -> None:
    hand_over = """([kind, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.jpg`, { type: "image/jpeg" }));
        const event = kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
            : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    for count, kind in enumerate(("paste", "drop"), 1):
        tab.page.evaluate(hand_over, [kind, list(PHOTO.read_bytes())])
        tab.wait_for(f"document.querySelectorAll('.strip .item').length === {count}")
    tab.wait_for(
        "document.querySelector('.strip .item:last-child .state').textContent === '1 face'"
    )
    assert tab.page.locator("#image").get_attribute("alt") == "drop.jpg"


def test_by_keyboard_alone(tab: Tab) -> None:
    """From the top of the page to a saved answer, by Tab, Enter and the file dialog."""
    page = tab.page

    def tab_to(selector: str) -> None:
        for _ in range(25):
            page.keyboard.press("Tab")
            if page.locator(selector).first.evaluate(
                "element => element === document.activeElement"
            ):
                shown = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert shown == "solid"
                return
        pytest.fail(f"Tab does not reach {selector}")

    # Listened for from here on: Chromium takes a moment to hand its dialogs over.
    page.on("filechooser", lambda chooser: chooser.set_files(PHOTO))
    tab_to(".skip")
    tab_to("#choose")
    page.keyboard.press("Enter")
    tab.wait_for(ANALYSED)
    page.locator("h1").click()
    tab_to(FIRST_BOX)
    page.keyboard.press("Enter")
    tab.wait_for("document.querySelectorAll('.reasons button').length === 3")
    with page.expect_download():
        tab_to("#save-json")
        page.keyboard.press("Enter")
    tab_to(".reasons button")
    page.keyboard.press("Enter")
    pressed = page.evaluate("[...document.querySelectorAll('.reasons [aria-pressed=true]')].length")
    assert pressed == 0
    assert page.evaluate("document.activeElement.dataset.head") == "emotion"
    tab_to("summary")
    page.keyboard.press("Enter")
    tab_to("#attributes input")
    page.keyboard.press("Space")
    tab.wait_for("!document.querySelector('.answers [data-head=emotion]')")


def test_labels_of_faces_side_by_side_do_not_cover_each_other(tab: Tab) -> None:
    written = tab.page.evaluate(
        """async () => {
            const { draw } = await import("/web/draw.js");
            const context = new OffscreenCanvas(400, 300).getContext("2d");
            const written = [];
            context.fillText = (text, x, y) => written.push([text, x, y]);
            const one = { probability: 1, uncertain: false };
            const gender = { label: "female", ...one };
            const said = { emotion: { label: "happy", ...one }, gender };
            const faces = [[100, 80], [190, 84], [280, 80]].map(([x, y], index) => {
                return { id: index, face: { ...said, box: { x, y, width: 85, height: 120 } } };
            });
            draw(context, faces, (box) => box);
            return written;
        }"""
    )
    spots = {(x, y) for _, x, y in written}
    assert [text for text, _, _ in written] == [
        text for index in range(3) for text in (f"{index}  happy 100 %", "female")
    ]
    first, second, third = ([y for _, _, y in written[at : at + 2]] for at in (0, 2, 4))
    assert len(spots) == 6
    assert max(first) < 80 < 204 < min(second), "below its box: the place above is taken"
    assert max(third) < 80
