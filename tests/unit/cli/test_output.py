"""A results file after every way in which a run can end."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet
import pytest

from service.card import HeadSpec
from service.cli.formats import Csv, OutputError
from service.cli.inputs import Input
from service.cli.output import Output, open_output
from service.cli.records import Record, columns
from service.types import EMOTIONS
from tests.api.streaming import result
from tests.unit.cli.commands import lines

HEADS = {"emotion": HeadSpec(labels=EMOTIONS)}
NAMES = [
    "a.jpg",
    'with, "comma".jpg',
    "two\nlines.jpg",
    "carriage\rreturn.jpg",
    "ä ö.jpg",
    "empty.jpg",
]
PATHS = [os.path.abspath(name) for name in NAMES]
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
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert [row["source"] for row in rows if row["face"] in ("", "0")] == PATHS
    for name in PATHS:
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
    assert (rows[-1]["source"], rows[-1]["faces"], rows[-1]["emotion"]) == (PATHS[-1], 0, None)
    assert [row["source"] for row in rows if row["face"] in (None, 0)] == PATHS
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
        # Without a record there is nothing to go on with, or to replace.
        assert output.unfinished == (CLIP.key if stop else None)
        assert not output.is_done(CLIP)
        assert set(output.frames_done(CLIP, every=1, whole=False)) == set(range(stop))
        output.begin(CLIP, every=1, whole=False)
        for frame in range(stop, 4):
            output.write(record(CLIP, frame))
        output.end(CLIP)
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
        assert not output.frames_done(CLIP, every=now[0], whole=now[1])
        # Nothing is lost before it is known that the video can be opened.
        assert len(lines(path)) == 3
        output.begin(CLIP, every=now[0], whole=now[1])
        assert len(lines(path)) == 1
        output.write(record(CLIP, 0))
        output.end(CLIP)
    assert [line["source"] for line in lines(path)] == [PHOTOS[0].key, CLIP.key]


def test_a_live_source_counts_on(tmp_path: Path) -> None:
    camera = Input("camera:0", "live")
    with opened(tmp_path / "r.jsonl") as output:
        output.write(record(camera, 7))
    with opened(tmp_path / "r.jsonl") as output:
        assert not output.is_done(camera)
        assert output.frames_done(camera, every=1, whole=True) == (7,)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_video_that_failed_in_part_is_made_up_for(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r{suffix}"
    with opened(path) as output:
        output.begin(CLIP, every=1, whole=False)
        for frame in (0, 2):
            output.write(record(CLIP, frame))
        output.end(CLIP, "1 frames failed")
        output.write(record(PHOTOS[0]))
    for ends in (False, True):  # cut off, too, what is missing stays known
        with opened(path) as output:
            assert (output.unfinished, output.is_done(CLIP)) == (None, False)
            assert set(output.frames_done(CLIP, every=1, whole=False)) == {0, 2}
            output.begin(CLIP, every=1, whole=False)
            if ends:
                output.write(record(CLIP, 1))
                output.end(CLIP)
    with opened(path) as output:
        assert output.is_done(CLIP)
        assert output.is_done(PHOTOS[0])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("was", "now"), [((1, True), (1, True)), ((1, False), (1, True)), ((2, False), (1, False))]
)
def test_what_cannot_be_made_up_for_is_told(
    tmp_path: Path, was: tuple[int, bool], now: tuple[int, bool]
) -> None:
    with opened(tmp_path / "r.jsonl") as output:
        output.begin(CLIP, every=was[0], whole=was[1])
        output.write(record(CLIP, 0))
        output.end(CLIP, "it ends early")
    with opened(tmp_path / "r.jsonl") as output:
        assert not output.is_done(CLIP)
        with pytest.raises(OutputError, match=r"it ends early.*name another file"):
            output.frames_done(CLIP, every=now[0], whole=now[1])


def cut_off(path: Path) -> None:
    """A run that ends in a video, after a photo."""
    with opened(path) as output:
        output.write(record(PHOTOS[0]))
        output.begin(CLIP, every=1, whole=True)
        output.write(record(CLIP, 0))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_the_mark_of_a_file_that_was_removed_is_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r{suffix}"
    cut_off(path)
    path.unlink()
    with opened(path) as output:
        assert output.unfinished is None
        output.begin(CLIP, every=1, whole=True)
        output.write(record(CLIP, 0))
        output.end(CLIP)
    assert b"\0" not in path.read_bytes()
    with opened(path) as output:
        assert output.is_done(CLIP)


def test_a_mark_that_does_not_fit_its_file_cuts_nothing_off(tmp_path: Path) -> None:
    path, other = tmp_path / "r.jsonl", tmp_path / "other.jsonl"
    cut_off(path)
    with opened(other) as output:
        output.write(record(CLIP, 0))
        output.write(record(PHOTOS[1]))
    before = other.read_bytes()
    other.replace(path)
    with opened(path) as output, pytest.raises(OutputError, match="cut off"):
        output.frames_done(CLIP, every=1, whole=True)
    assert path.read_bytes() == before


def test_a_mark_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    cut_off(path)
    path.with_name("r.jsonl.unfinished").write_text('{"source": "cl')
    with pytest.raises(OutputError, match=r"r\.jsonl\.unfinished cannot be read"), opened(path):
        pass


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_two_runs_at_once_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r{suffix}"
    with opened(path) as output:
        output.write(record(PHOTOS[0]))
        with pytest.raises(OutputError, match="another run is writing"), opened(path):
            pass
        output.write(record(PHOTOS[1]))
    with opened(path) as output:
        assert [output.is_done(each) for each in PHOTOS[:3]] == [True, True, False]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_by_another_name_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    path, link = tmp_path / f"r{suffix}", tmp_path / f"link{suffix}"
    link.symlink_to(path)
    with opened(path) as output:
        output.write(record(PHOTOS[0]))
        with pytest.raises(OutputError, match="another run is writing"), opened(link):
            pass
    with opened(link) as output:
        assert output.is_done(PHOTOS[0])
        output.write(record(PHOTOS[1]))
    assert link.is_symlink()
    with opened(path) as output:
        assert [output.is_done(each) for each in PHOTOS[:2]] == [True, True]


def test_a_lock_that_is_just_being_removed_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = fcntl.flock

    def late(file: int, how: int) -> None:
        (tmp_path / "r.jsonl.lock").unlink()
        take(file, how)

    monkeypatch.setattr("fcntl.flock", late)
    with pytest.raises(OutputError, match="another run"), opened(tmp_path / "r.jsonl"):
        pass


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_of_the_same_name_in_another_folder_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"r{suffix}"
    for folder in ("d1", "d2"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        with opened(path) as output:
            assert not output.is_done(PHOTOS[0])
            output.write(record(PHOTOS[0]))
    with opened(path) as output:
        assert output.is_done(PHOTOS[0])
        assert output.is_done(Input("../d1/a.jpg", "photo"))


def test_a_table_that_cannot_be_converted_stays(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with pytest.raises(OutputError, match=r"cannot be made of .*r\.parquet\.unfinished\.csv"):  # noqa: PT012, SIM117
        with opened(path) as output:
            output.write(record(PHOTOS[0]))
            path.mkdir()
    finish(tmp_path / "r.parquet.unfinished.csv")
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.jsonl", b"my diary"),
        ("r.jsonl", b'{"request_id":"a"}\n'),
        ("r.jsonl", b'{"request_id":oops}\n'),
        ("r.jsonl", b"\xff\xfe"),
        ("r.csv", b"my,diary\n1,2\n"),
        ("r.csv", b"x"),
        ("r.csv", Csv(columns(HEADS)).head + b"carriage\rreturn.jpg,,,10,10,0\n"),  # type: ignore[arg-type]
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
