"""A results file after every way in which a run can end."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet
import pytest

from service.card import HeadSpec
from service.cli.formats import OutputError
from service.cli.inputs import Input
from service.cli.output import Output, open_output
from service.cli.records import Record
from service.types import EMOTIONS
from tests.api.streaming import result
from tests.unit.cli.commands import lines

HEADS = {"emotion": HeadSpec(labels=EMOTIONS)}
NAMES = ["a.jpg", 'with, "comma".jpg', "two\nlines.jpg", "ä ö.jpg", "empty.jpg"]
PHOTOS = [Input(name, "photo") for name in NAMES]
CLIP = Input("clip.mp4", "video")


def record(source: Input, frame: int | None = None) -> Record:
    faces = 0 if source.source.startswith("empty") else 1 + len(source.source) % 3
    return Record(source.name, result(faces), frame, None if frame is None else frame / 10)


@contextmanager
def opened(path: Path) -> Iterator[Output]:
    with open_output(path, HEADS) as output:  # type: ignore[arg-type]
        yield output


def finish(path: Path) -> None:
    """What a run does."""
    with opened(path) as output:
        for photo in PHOTOS:
            if not output.is_done(photo):
                output.write(record(photo))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_cut_anywhere_it_is_the_same_in_the_end(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    finish(whole)
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    in_a_name = data.find(b"two\n") + len(b"two\n")
    for end in (*range(0, len(data), 31), in_a_name):
        path.write_bytes(data[:end])
        finish(path)
        assert path.read_bytes() == data, f"cut after {end} bytes"


def test_a_row_for_each_face_and_one_for_none(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    finish(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["source"] for row in rows if row["face"] in ("", "0")] == NAMES
    for name in NAMES:
        mine = [row for row in rows if row["source"] == name]
        assert len(mine) == max(int(mine[0]["faces"]), 1)
    assert rows[0]["emotion_happy"] == "0.7"
    assert rows[0]["emotion_uncertain"] == "false"
    assert rows[-1]["emotion"] == ""


def test_parquet_has_types(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.parquet"
    finish(path)
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert {type(rows[0][name]) for name in ("emotion_happy", "box_x")} == {float}
    assert rows[0]["emotion_uncertain"] is False
    assert (rows[-1]["source"], rows[-1]["faces"], rows[-1]["emotion"]) == ("empty.jpg", 0, None)
    assert [row["source"] for row in rows if row["face"] in (None, 0)] == NAMES
    assert [each.name for each in path.parent.iterdir()] == ["r.parquet"]


def test_parquet_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with opened(path) as output:
        output.write(record(PHOTOS[0]))
    with opened(path) as output:
        assert [output.is_done(photo) for photo in PHOTOS[:2]] == [True, False]
        output.write(record(PHOTOS[1]))
        # Of a run that is killed here the table beside it is left.
        left = path.with_name("r.parquet.unfinished.csv").read_bytes()
    path.with_name("r.parquet.unfinished.csv").write_bytes(left[:-20])
    finish(path)
    whole = tmp_path / "whole.parquet"
    finish(whole)
    assert pyarrow.parquet.read_table(path).equals(pyarrow.parquet.read_table(whole))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("stop", range(4))
def test_a_video_goes_on_where_it_ended(tmp_path: Path, suffix: str, stop: int) -> None:
    path = tmp_path / f"r{suffix}"
    with opened(path) as output:
        output.write(record(PHOTOS[0]))
        output.begin(CLIP, every=1, whole=False)
        for frame in range(stop):
            output.write(record(CLIP, frame))
    with opened(path) as output:
        assert output.unfinished == "clip.mp4"
        assert not output.is_done(CLIP)
        assert output.goes_on_after(CLIP, every=1, whole=False) == stop - 1
        output.begin(CLIP, every=1, whole=False)
        for frame in range(stop, 4):
            output.write(record(CLIP, frame))
        output.end()
    with opened(path) as output:
        assert output.unfinished is None
        assert output.is_done(CLIP)
        assert output.is_done(PHOTOS[0])
    if suffix == ".jsonl":
        assert [line.get("frame") for line in lines(path)] == [None, 0, 1, 2, 3]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("was", "now"), [((1, True), (1, False)), ((1, False), (1, True)), ((2, False), (1, False))]
)
def test_a_video_that_cannot_go_on_is_done_again(
    tmp_path: Path, was: tuple[int, bool], now: tuple[int, bool]
) -> None:
    path = tmp_path / "r.jsonl"
    with opened(path) as output:
        output.write(record(PHOTOS[0]))
        output.begin(CLIP, every=was[0], whole=was[1])
        output.write(record(CLIP, 0))
        output.write(record(CLIP, 1))
    with opened(path) as output:
        assert output.goes_on_after(CLIP, every=now[0], whole=now[1]) == -1
        # Nothing is lost before it is known that the video can be opened.
        assert len(lines(path)) == 3
        output.begin(CLIP, every=now[0], whole=now[1])
        assert len(lines(path)) == 1
        output.write(record(CLIP, 0))
        output.end()
    assert [line["source"] for line in lines(path)] == ["a.jpg", "clip.mp4"]


def test_a_live_source_counts_on(tmp_path: Path) -> None:
    camera = Input("camera:0", "live")
    with opened(tmp_path / "r.jsonl") as output:
        output.write(record(camera, 7))
    with opened(tmp_path / "r.jsonl") as output:
        assert not output.is_done(camera)
        assert output.goes_on_after(camera, every=1, whole=True) == 7


def test_a_mark_that_was_cut_off_is_none(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with opened(path) as output:
        output.write(record(PHOTOS[0]))
    path.with_name("r.jsonl.unfinished").write_text('{"source": "cl')
    with opened(path) as output:
        assert output.unfinished is None
        assert output.is_done(PHOTOS[0])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.jsonl", b"my diary"),
        ("r.jsonl", b'{"request_id":"a"}\n'),
        ("r.jsonl", b'{"request_id":oops}\n'),
        ("r.jsonl", b"\xff\xfe"),
        ("r.csv", b"my,diary\n1,2\n"),
        ("r.csv", b"x"),
        ("r.parquet", b"my diary"),
        ("r.parquet", b""),
    ],
)
def test_another_file_is_left_as_it_is(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(OutputError, match="name another file"), opened(path):
        pass
    assert path.read_bytes() == data
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["r.csv", "r.parquet"])
def test_other_heads_are_other_columns(tmp_path: Path, name: str) -> None:
    finish(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with (
        pytest.raises(OutputError, match="other columns"),
        open_output(tmp_path / name, {"gender": HeadSpec(labels=("female", "male"))}),
    ):
        pass
    assert (tmp_path / name).read_bytes() == before
