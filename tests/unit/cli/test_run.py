"""Runs without a model: what is worked on at a time, and what comes out when something fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from service.card import HeadSpec
from service.cli.engine import Gone
from service.cli.inputs import Input
from service.cli.output import open_output
from service.cli.records import Record
from service.cli.run import Run, RunOptions, in_order
from service.errors import InvalidImage
from service.types import EMOTIONS, Head, Result
from service.vision.codec import ImageLimits
from tests.api.streaming import result
from tests.fakes import settle
from tests.unit.cli.commands import SMALL, clip, lines, photo


async def each(items: Iterable[int]) -> AsyncIterator[int]:
    for item in items:
        yield item


class Gate:
    """Work that ends when the test says so."""

    def __init__(self) -> None:
        self.ends: dict[int, asyncio.Future[None]] = {}
        self.cancelled: list[int] = []

    async def work(self, item: int) -> int:
        self.ends[item] = asyncio.get_running_loop().create_future()
        try:
            await self.ends[item]
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        return 10 * item


async def collect(gate: Gate, items: Iterable[int], at_once: int) -> list[tuple[int, Any]]:
    return [pair async for pair in in_order(each(items), gate.work, at_once)]


async def test_several_at_a_time_and_in_order() -> None:
    gate = Gate()
    collecting = asyncio.create_task(collect(gate, range(5), 3))
    await settle()
    assert list(gate.ends) == [0, 1, 2]
    for item in (2, 1):
        gate.ends[item].set_result(None)
        await settle()
    assert list(gate.ends) == [0, 1, 2]
    gate.ends[0].set_result(None)
    await settle()
    assert list(gate.ends) == [0, 1, 2, 3, 4]
    gate.ends[4].set_result(None)
    gate.ends[3].set_result(None)
    assert await collecting == [(n, 10 * n) for n in range(5)]


async def test_an_error_is_that_of_its_item() -> None:
    gate = Gate()
    collecting = asyncio.create_task(collect(gate, range(3), 3))
    await settle()
    error = InvalidImage("bad")
    gate.ends[1].set_exception(error)
    for item in (0, 2):
        gate.ends[item].set_result(None)
    assert await collecting == [(0, 0), (1, error), (2, 20)]


@pytest.mark.parametrize("error", [Gone("no more"), ValueError("a bug")])
async def test_what_ends_all_ends_what_is_in_work(error: Exception) -> None:
    gate = Gate()
    collecting = asyncio.create_task(collect(gate, range(9), 3))
    await settle()
    gate.ends[0].set_exception(error)
    with pytest.raises(type(error)):
        await collecting
    assert gate.cancelled == [1, 2]


async def test_who_leaves_early_leaves_nothing_in_work() -> None:
    gate = Gate()
    async with aclosing(in_order(each(range(9)), gate.work, 3)) as pairs:
        first = asyncio.ensure_future(anext(pairs))
        await settle()
        gate.ends[0].set_result(None)
        assert await first == (0, 0)
    assert gate.cancelled == [1, 2]


class Scripted:
    """An engine that fails as it is told, by the number of the call."""

    at_once = 2
    heads: dict[Head, HeadSpec] = {"emotion": HeadSpec(labels=EMOTIONS)}  # noqa: RUF012

    def __init__(self, fails: Callable[[int], Exception | None]) -> None:
        self._fails = fails
        self.calls = 0

    async def analyze(self, data: bytes) -> Result:
        self.calls += 1
        if (error := self._fails(self.calls)) is not None:
            raise error
        return result(1)


async def go(engine: Scripted, path: Path, inputs: list[Input], **options: Any) -> Run:
    with open_output(path, engine.heads) as output:
        run = Run(
            engine,
            RunOptions(ImageLimits(), **options),
            output=output,
            drawings={},
            report=lambda _: None,
        )
        await run.all([each for each in inputs if not output.is_done(each)])
    return run


@pytest.fixture
def clips(tmp_path: Path) -> list[Input]:
    return [Input(str(clip(tmp_path / name, 8)), "video") for name in ("a.avi", "b.avi")]


async def test_frames_that_fail_are_left_out_and_told_of_once(
    tmp_path: Path, clips: list[Input], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Scripted(lambda call: InvalidImage("bad") if call in (3, 4) else None)
    run = await go(engine, tmp_path / "r.jsonl", clips)
    assert (run.analysed, run.failed) == (14, 1)
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"{clips[0].name}: 2 frames failed; the first of them: bad"
    frames = [line["frame"] for line in lines(tmp_path / "r.jsonl")]
    # With two in work, which frame is the third or fourth call is not said.
    assert frames[:6] == sorted(set(frames[:6]))
    assert frames[6:] == list(range(8))


async def test_frames_that_failed_are_tried_again(tmp_path: Path, clips: list[Input]) -> None:
    path = tmp_path / "r.jsonl"
    await go(Scripted(lambda call: InvalidImage("x") if call in (3, 4) else None), path, clips)
    missing = set(range(8)) - {line["frame"] for line in lines(path)[:6]}
    engine = Scripted(lambda call: None)
    run = await go(engine, path, clips)
    assert (run.analysed, run.failed, engine.calls) == (2, 0, 2)
    assert [line["frame"] for line in lines(path)][-2:] == sorted(missing)
    assert (await go(engine, path, clips)).analysed == 0


@pytest.mark.parametrize("every", [1, 4, 40])
async def test_a_video_cut_short_keeps_each_frame_that_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], every: int
) -> None:
    path, whole = tmp_path / "r.jsonl", clip(tmp_path / "a.avi", 40)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    short = [Input(str(whole), "video")]
    engine = Scripted(lambda call: None)
    engine.at_once = 8
    assert (await go(engine, path, short, every=every)).failed == 1
    said = capsys.readouterr().err
    read = int(re.search(r"ends after (\d+) of about 40 frames", said)[1])  # type: ignore[index]
    kept = [line["frame"] for line in lines(path)]
    assert kept == list(range(0, read, every))
    # Nothing of it is done twice, and it is not said to be well.
    again = await go(engine, path, short, every=every)
    assert (again.analysed, again.failed) == (0, 1)
    whole.write_bytes(data)
    assert (await go(engine, path, short, every=every)).failed == 0
    assert [line["frame"] for line in lines(path)] == list(range(0, 40, every))


async def test_tracks_of_a_video_that_failed_are_told_of_again(
    tmp_path: Path, clips: list[Input], capsys: pytest.CaptureFixture[str]
) -> None:
    path, bad = tmp_path / "r.jsonl", InvalidImage("bad")
    await go(Scripted(lambda call: bad if call == 3 else None), path, clips, tracks=True)
    before = path.read_bytes()
    capsys.readouterr()
    run = await go(Scripted(lambda call: None), path, clips, tracks=True)
    assert (run.analysed, run.failed) == (0, 1)
    assert "1 frames failed; the first of them: bad" in capsys.readouterr().err
    assert path.read_bytes() == before


async def test_a_service_that_goes_ends_the_run_and_the_next_goes_on(
    tmp_path: Path, clips: list[Input]
) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(Gone):
        await go(Scripted(lambda call: Gone("gone") if call > 11 else None), path, clips)
    assert [line["frame"] for line in lines(path)] == [*range(8), 0, 1, 2]
    engine = Scripted(lambda call: None)
    run = await go(engine, path, clips)
    assert (run.analysed, engine.calls) == (5, 5)
    assert [line["frame"] for line in lines(path)] == [*range(8), *range(8)]


async def test_tracks_are_done_again_as_a_whole(tmp_path: Path, clips: list[Input]) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(Gone):
        await go(Scripted(lambda n: Gone("x") if n > 11 else None), path, clips, tracks=True)
    run = await go(Scripted(lambda call: None), path, clips, tracks=True)
    assert run.analysed == 8
    assert [line["frame"] for line in lines(path)] == [*range(8), *range(8)]
    assert {face["track_id"] for line in lines(path) for face in line["faces"]} == {1}


async def test_tracks_go_on_from_frame_to_frame_however_few_there_are(tmp_path: Path) -> None:
    path, slow = tmp_path / "r.jsonl", clip(tmp_path / "a.avi", 8, fps=1)
    engine = Scripted(lambda call: InvalidImage("bad") if call == 2 else None)
    await go(engine, path, [Input(str(slow), "video")], tracks=True, every=2)
    assert [face["track_id"] for line in lines(path) for face in line["faces"]] == [1, 1, 1]


async def test_half_a_video_stays_until_it_can_be_opened_again(
    tmp_path: Path, clips: list[Input]
) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(Gone):
        await go(Scripted(lambda n: Gone("x") if n > 3 else None), path, clips, tracks=True)
    before = path.read_bytes()
    moved = clips[0].path.rename(tmp_path / "moved.avi")
    with pytest.raises(Gone, match="unfinished"):
        await go(Scripted(lambda call: None), path, clips, tracks=True)
    assert path.read_bytes() == before
    moved.rename(clips[0].path)
    assert (await go(Scripted(lambda call: None), path, clips, tracks=True)).analysed == 16


async def test_results_that_cannot_be_written_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(record: Record) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.cli.output.Output.write", lambda self, record: full(record))
    photos = [Input(str(photo(tmp_path, f"{n}.jpg", SMALL)), "photo") for n in range(3)]
    with pytest.raises(OSError, match="No space"):
        await go(Scripted(lambda call: None), tmp_path / "r.jsonl", photos)
