from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from service.cli.frames import (
    ASSUMED_FPS,
    Clock,
    Frame,
    FrameOptions,
    VideoError,
    expected_frames,
    frame_count,
    frame_rate,
    open_frames,
)
from service.cli.inputs import Input
from tests.unit.cli.broadcast import broadcast
from tests.unit.cli.commands import SMALL, clip


async def frames_of(source: Input, **options: Any) -> tuple[float, list[Frame]]:
    async with open_frames(source, FrameOptions(**options)) as frames:
        return frames.fps, await collect(frames.each)


async def collect(frames: AsyncIterator[Frame]) -> list[Frame]:
    return [frame async for frame in frames]


def video(path: Path) -> Input:
    return Input(str(path), "video")


class Said:
    """What a container says of itself."""

    def __init__(self, value: float) -> None:
        self.value = value

    def get(self, _: int) -> float:
        return self.value


@pytest.mark.parametrize("said", [0.0, float("nan"), -1.0, 90_000.0, float("inf")])
def test_a_frame_rate_that_cannot_be(said: float) -> None:
    capture: Any = Said(said)
    assert frame_rate(capture) == ASSUMED_FPS


@pytest.mark.parametrize("said", [0.0, float("nan"), -9e18, float("inf")])
def test_a_length_that_cannot_be(said: float) -> None:
    capture: Any = Said(said)
    assert frame_count(capture) is None


def test_times_are_those_of_the_video_as_long_as_they_go_on() -> None:
    clock = Clock(10)
    nan = float("nan")
    times = [clock.at(ms) for ms in (0, 40, 200, 200, 150, nan, 1000)]
    assert times == pytest.approx([0, 0.04, 0.2, 0.3, 0.4, 0.5, 1.0])


def test_times_without_any() -> None:
    clock = Clock(25)
    assert [clock.at(0) for _ in range(3)] == pytest.approx([0, 0.04, 0.08])


async def test_frames_with_their_numbers_and_times(tmp_path: Path) -> None:
    fps, frames = await frames_of(video(clip(tmp_path / "ä b.mp4", 7)))
    assert fps == 10
    assert [frame.number for frame in frames] == list(range(7))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 10 for n in range(7)])
    assert frames[0].pixels.shape == (100, 120, 3)


async def test_each_third(tmp_path: Path) -> None:
    fps, frames = await frames_of(video(clip(tmp_path / "a.avi", 7)), every=3)
    assert fps == pytest.approx(10 / 3)
    assert [frame.number for frame in frames] == [0, 3, 6]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.3, 0.6])


async def test_gone_on_with(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 7)
    assert [f.number for f in (await frames_of(video(path), done={0, 1, 2}, every=2))[1]] == [4, 6]
    assert (await frames_of(video(path), done=range(7)))[1] == []


@pytest.mark.parametrize("data", [b"", b"no video", SMALL[:500]])
async def test_no_video(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError, match="can"):
        await frames_of(video(path))
    assert expected_frames(video(path)) is None


async def test_a_video_without_a_frame(tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        await frames_of(video(clip(tmp_path / "a.avi", 0)))


async def test_a_video_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        await frames_of(video(tmp_path / "a.mp4"))


async def test_a_video_that_was_cut_off(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.avi", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    async with open_frames(video(path), FrameOptions()) as frames:
        assert (await anext(frames.each)).number == 0
        with pytest.raises(VideoError, match=r"ends after \d+ of about 40 frames"):
            await collect(frames.each)


def test_how_many_there_are(tmp_path: Path) -> None:
    assert expected_frames(video(clip(tmp_path / "a.mp4", 7))) == 7
    assert expected_frames(Input("camera:0", "live")) is None


@pytest.mark.parametrize("name", ["camera:x", "camera:", "camera:99"])
async def test_no_camera(name: str) -> None:
    with pytest.raises(VideoError):
        await frames_of(Input(name, "live"))


async def test_a_stream_gives_its_newest_frame() -> None:
    with broadcast(30) as url:
        async with open_frames(Input(url, "live"), FrameOptions(done=(9,))) as frames:
            numbers, times = [], []
            async for frame in frames.each:
                numbers.append(frame.number)
                times.append(frame.time_s)
                assert frame.pixels.shape == (100, 100, 3)
                await asyncio.to_thread(cv2.blur, frame.pixels, (25, 25))
    assert numbers == sorted(set(numbers))
    assert times == sorted(times)
    assert numbers[0] >= 10
    assert numbers[-1] == 39


async def test_a_stream_is_left_before_its_end() -> None:
    with broadcast(500) as url:
        async with open_frames(Input(url, "live"), FrameOptions(every=2)) as frames:
            async for frame in frames.each:
                assert frame.number % 2 == 0
                break


async def test_a_stream_that_shows_nothing() -> None:
    with broadcast(0) as url, pytest.raises(VideoError):
        await frames_of(Input(url, "live"))
