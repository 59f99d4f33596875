"""Camera and video files in the page: frames out, answers in, boxes on the faces."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np

from tests.browser.clips import SIDE, offset, on_the_face
from tests.browser.conftest import Opener, Tab

BOXES = """() => {
    const frame = document.getElementById("frame").getBoundingClientRect();
    return [...document.querySelectorAll(".boxes button")].map((button) => {
        const { x, y, width, height } = button.getBoundingClientRect();
        return [x - frame.x, y - frame.y, width, height].map((value) => value / frame.width);
    });
}"""
SIDES = ("x", "y", "width", "height")
FIGURES = ("sent", "answered", "dropped", "errors")
SENT, *_ENDS = (f"Number(document.getElementById('{name}').textContent)" for name in FIGURES)
SETTLED = f"{SENT} > 0 && {SENT} === {' + '.join(_ENDS)}"
ANSWERED = f"{_ENDS[0]} > 0"


def results(tab: Tab) -> list[dict]:
    return [message for message in tab.messages if message["type"] == "frame.result"]


def drawn(tab: Tab) -> list[float]:
    """The largest box, in pixels of the clip."""
    boxes = tab.page.evaluate(BOXES) or [[0, 0, 0, 0]]
    return [share * SIDE for share in max(boxes, key=lambda box: box[2])]


def configured(tab: Tab) -> dict:
    """What held last."""
    return [message for message in tab.messages if message["type"] == "session.configured"][-1]


def mirrored(message: dict) -> list[list[float]]:
    """The boxes of an answer as shares of the width, as a mirror shows them."""
    width = message["image"]["width"]
    boxes = [face["box"] for face in message["faces"]]
    return [
        [width - box["x"] - box["width"], box["y"], box["width"], box["height"]] for box in boxes
    ] / np.float64(width)


def test_camera_for_ten_seconds(tab: Tab) -> None:
    tab.page.click("#camera")
    tab.wait_for(ANSWERED)
    seen = []
    until = time.monotonic() + 10
    while time.monotonic() < until:
        figures = tab.figures()
        assert figures["sent"] - figures["answered"] - figures["dropped"] - figures["errors"] <= 2
        seen += tab.page.evaluate(BOXES)
        tab.page.wait_for_timeout(200)
    tab.shoot("camera")
    assert (
        tab.page.locator(".history canvas").first.get_attribute("aria-label").startswith("Emotions")
    )
    tab.page.click("#camera")
    tab.wait_for(SETTLED)
    tab.wait_for("document.getElementById('connection').textContent === 'closed'")
    figures = tab.figures()
    (closed,) = [message for message in tab.messages if message["type"] == "session.closed"]
    assert figures["sent"] == closed["received"]
    assert figures["answered"] == closed["processed"] == len(results(tab)) >= 4
    assert figures["errors"] == figures["lost"] == 0
    # Whatever was drawn is what was answered, and it moved.
    assert len(seen) >= 10
    answered = np.concatenate([mirrored(message) for message in results(tab) if message["faces"]])
    distances = np.abs(np.array(seen)[:, None] - answered[None]).max(axis=2)
    assert distances.min(axis=1).max() < 0.01
    assert len(set(distances.argmin(axis=1).tolist())) >= 3
    # The last frame stays, as a photo.
    assert tab.page.locator("#image").is_visible()
    assert tab.page.locator("#save-json").is_enabled()


def saved_box(tab: Tab, folder: Path) -> list[float]:
    with tab.page.expect_download() as saved:
        tab.page.click("#save-json")
    saved.value.save_as(folder / "frame.json")
    face = json.loads((folder / "frame.json").read_text())["faces"][0]
    return [face["box"][side] for side in SIDES]


def test_boxes_of_a_video_file_follow_the_face(tab: Tab, clip: Path, tmp_path: Path) -> None:
    tab.choose(clip)
    tab.wait_for(ANSWERED)
    tab.page.click("#play")
    # The video tells that it has stopped a moment later.
    tab.wait_until(lambda: tab.text("#play") == "Play", "it has stopped")
    for second in (0.4, 4.4, 8.6):
        tab.page.locator("#seek").evaluate(
            "(seek, second) => { seek.value = second; seek.dispatchEvent(new Event('input')); }",
            second + 0.01,
        )
        corner = offset(second)
        tab.wait_until(
            lambda corner=corner: on_the_face(drawn(tab), *corner), f"box on the face at {second} s"
        )
        tab.wait_for(SETTLED)
        # The frame of the place itself may come after one of a place near it.
        tab.wait_until(
            lambda: np.allclose(drawn(tab), saved_box(tab, tmp_path), atol=1),
            f"what is saved is what is drawn at {second} s",
        )
    assert {face["track_id"] for message in results(tab) for face in message["faces"]}
    tab.shoot("video")


def test_settings_of_a_stream(tab: Tab, clip: Path) -> None:
    tab.page.click("summary")
    tab.page.select_option("select[name=policy]", "block")
    tab.page.uncheck("#attributes input[value=age]")
    tab.choose(clip)
    tab.wait_for(ANSWERED)
    assert configured(tab)["drop_policy"] == "block"
    assert set(configured(tab)["attributes"]) == {"emotion", "gender"}
    assert results(tab)[0]["image"]["width"] == SIDE
    tab.page.fill("input[name=smoothing]", "0")
    tab.page.select_option("select[name=side]", "320")
    tab.page.select_option("select[name=policy]", "latest")
    # A session that had frames is ended, and another one configured.
    wanted = (0, "latest")
    tab.wait_until(
        lambda: (configured(tab)["smoothing"], configured(tab)["drop_policy"]) == wanted,
        "the session has other options",
    )
    before = len(results(tab))
    tab.page.check("#attributes input[value=age]")
    tab.wait_until(lambda: len(results(tab)) > before, "it goes on, even if the clip is over")


def test_why_of_a_moving_face(tab: Tab, clip: Path) -> None:
    tab.choose(clip)
    tab.wait_for("document.querySelector('.card')")
    tab.page.click(".why")
    tab.wait_for("document.querySelectorAll('.reasons button').length === 3")
    assert tab.page.locator("#image").is_visible()
    names = tab.page.locator(".strip .pick span:first-of-type").all_inner_texts()
    assert names[0] == "clip.webm"
    assert names[1].startswith("clip-")


def test_a_file_that_is_no_video(tab: Tab) -> None:
    tab.choose({"name": "clip.mp4", "mimeType": "video/mp4", "buffer": b"no video at all"})
    notice = tab.page.locator("#notice [role=alert]")
    notice.wait_for()
    assert notice.inner_text().startswith("This browser cannot play clip.mp4.")
    assert tab.page.locator("#welcome").is_visible()


def test_no_frame_of_one_clip_passes_for_another_s(tab: Tab, clip: Path) -> None:
    other = {"name": "other.webm", "mimeType": "video/webm", "buffer": clip.read_bytes()}
    tab.choose(clip, other)
    tab.wait_for(ANSWERED)
    # The other one is chosen while a frame of the first is not answered, and takes long to begin.
    tab.page.evaluate(
        f"""new Promise((chosen) => {{
            HTMLMediaElement.prototype.play = () => new Promise((_, fail) => (window.fail = fail));
            const look = setInterval(() => {{
                if ({SENT} === {" + ".join(_ENDS)}) return;
                clearInterval(look);
                document.querySelector(".item:nth-child(2) .pick").click();
                chosen();
            }}, 1);
        }})"""
    )
    tab.wait_until(
        lambda: any(message["type"] == "session.closed" for message in tab.messages),
        "all frames of the first clip are answered",
    )
    assert tab.page.locator("#save-json").is_disabled()
    assert tab.page.locator(".card").count() == 0
    tab.page.evaluate("window.fail(new Error('it cannot be played'))")
    tab.page.get_by_text("This browser cannot play other.webm.").wait_for()
    names = tab.page.locator(".strip .pick span:first-of-type").all_inner_texts()
    assert names == ["clip.webm", "other.webm"]


def test_why_there_is_no_stream(tab: Tab, clip: Path) -> None:
    reason = "rate_limited: too many streams of this client"
    tab.page.route_web_socket(
        re.compile("v1/stream"), lambda socket: socket.close(code=1008, reason=reason)
    )
    tab.page.reload()
    tab.choose(clip)
    notice = tab.page.locator("#notice [role=status]")
    notice.wait_for()
    assert re.fullmatch(
        r"Too many streams of this client\. Trying again in \d+ s\.", notice.inner_text()
    )


def test_a_face_that_is_missed_keeps_its_history_as_long_as_its_track_may_live(tab: Tab) -> None:
    said = tab.page.evaluate(
        """async () => {
            const { FaceList } = await import("/web/faces.js");
            const [list, template, summary, used] = ["faces", "face-card", "summary", "used"].map(
                (id) => document.getElementById(id),
            );
            const faces = new FaceList({ list, template, summary, used });
            const emotion = { label: "sad", probability: 1, probabilities: { sad: 1 } };
            const follow = (time, ...ids) => {
                const seen = ids.map((track_id) => ({ track_id, emotion }));
                faces.follow({ models: {}, faces: seen }, time);
                return list.firstElementChild;
            };
            const first = follow(0, 1);
            const said = { away: follow(900).className, shown: !first.hidden };
            said.hidden = follow(1100).hidden;
            said.back = follow(9000, 1) === first && !first.hidden && first.className;
            said.gone = follow(22_100);
            const second = follow(23_000, 1);
            faces.beginAnew();
            return { ...said, another: follow(23_100, 1) !== second };
        }"""
    )
    assert said == {
        "away": "card away",
        "shown": True,
        "hidden": True,
        "back": "card",
        "gone": None,
        "another": True,
    }


def test_no_camera_over_plain_http_from_elsewhere(open_tab: Opener, server: str) -> None:
    tab = open_tab(server.replace("127.0.0.1", "elsewhere.test"))
    tab.page.click("#camera")
    tab.page.locator("#notice [role=alert]").wait_for()
    assert "https" in tab.text("#notice p")
