"""`mien analyze` as it is used: photos, folders, videos and results files, by tiny real models."""

from __future__ import annotations

import csv
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from service.cli.formats import OutputError
from service.cli.inputs import Input
from service.cli.output import open_output
from service.cli.records import Record
from tests.api.streaming import result
from tests.test_process import MIEN, serving
from tests.unit.cli.broadcast import broadcast
from tests.unit.cli.commands import SMALL, clip, lines, mien, photo


def results(path: Path) -> list[dict[str, Any]]:
    """What does not change from run to run."""
    return [
        {name: value for name, value in line.items() if name != "timings_ms"}
        for line in lines(path)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "some where"
    photo(folder, "a.jpg")
    photo(folder, "deep/ä ö.jpg")
    clip(folder / "b.mp4", 6)
    return folder


def test_a_folder_and_once_more(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.jsonl"
    first = mien("analyze", folder, "--out", path)
    assert (first.exit_code, first.stdout) == (0, "")
    assert "8 analysed" in first.stderr
    names = [line["request_id"].removeprefix(f"{folder}/") for line in lines(path)]
    assert names == ["a.jpg", *(f"b.mp4#{n}" for n in range(6)), "deep/ä ö.jpg"]
    assert [line.get("time_s") for line in lines(path)[:3]] == [None, 0, 0.1]
    assert all(len(line["faces"]) == 1 for line in lines(path))
    before = path.read_bytes()
    again = mien("analyze", folder, "--out", path)
    assert again.exit_code == 0
    assert "0 analysed" in again.stderr
    assert "3 done before" in again.stderr
    assert path.read_bytes() == before


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    good, bad = photo(tmp_path, "good.jpg"), photo(tmp_path, "bad.jpg", b"no image")
    path = tmp_path / "r.csv"
    assert mien("analyze", bad, good, "--out", path).exit_code == 1
    bad.write_bytes(SMALL)
    assert mien("analyze", bad, good, "--out", path).exit_code == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [Path(row["source"]).name for row in rows] == ["good.jpg", "bad.jpg"]
    assert rows[0]["emotion"] == rows[1]["emotion"]


def test_tracks_through_a_video(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    video, drawn = clip(tmp_path / "a.mp4", 8), tmp_path / "new" / "drawn.mp4"
    args = ("--tracks", "--annotate", drawn, "--every", "2", "--out", path)
    done = mien("analyze", video, *args)
    assert done.exit_code == 0, done.output
    assert [line["frame"] for line in lines(path)] == [0, 2, 4, 6]
    assert [face["track_id"] for line in lines(path) for face in line["faces"]] == [1] * 4
    capture = cv2.VideoCapture(str(drawn))
    assert capture.get(cv2.CAP_PROP_FPS) == 5
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert capture.read()[1].shape == (100, 120, 3)
    assert [each.name for each in drawn.parent.iterdir()] == ["drawn.mp4"]


def test_drawings_of_all_kinds_in_a_folder(folder: Path) -> None:
    said = mien("analyze", folder, "--annotate", folder / "drawn", "--json")
    assert said.exit_code == 0, said.output
    assert len(said.stdout.splitlines()) == 8
    drawn = sorted(each.name for each in (folder / "drawn").iterdir())
    assert drawn == ["a.faces.png", "b.faces.mp4", "ä ö.faces.png"]
    # What was drawn is not analysed.
    again = mien("analyze", folder, "--annotate", folder / "drawn", "--json")
    assert len(again.stdout.splitlines()) == 8


def test_a_table_of_a_video(tmp_path: Path) -> None:
    said = mien("analyze", "--tracks", clip(tmp_path / "a.mp4", 2))
    assert "#1 " in said.stdout
    assert "at 0.10 s" in said.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a.jpg", "--out", "r.txt"), ".jsonl, .csv, .parquet"),
        (("a.jpg", "--annotate", "r.mp4"), "takes one video"),
        (("b.mp4", "b.mp4", "a.jpg", "--annotate", "r.mp4"), "takes one video"),
        (("b.mp4", "--annotate", "b.mp4"), "write over"),
        (("a.jpg", "--annotate", "r.png"), "must be a folder"),
        (("b.mp4", "--annotate", "a.jpg"), "must be a folder"),
        (("a.jpg", "--annotate", "a.jpg/deep"), "a.jpg"),
        (("a.jpg", "--every", "0"), "every"),
        (("a.jpg", "--out", "a.jpg/r.csv"), "a.jpg"),
        (("a.jpg", "--server", "http://127.0.0.1:1"), "127.0.0.1:1"),
        (("a.jpg", "--server", "127.0.0.1:1"), "127.0.0.1:1"),
        ((), "INPUTS"),
    ],
)
def test_wrong_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    said = mien("analyze", *args)
    assert said.exit_code == 2
    assert message in said.stderr
    assert "Traceback" not in said.output
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = mien("analyze", photo(tmp_path, "a.jpg"), "--out", tmp_path / "r.parquet")
    assert said.exit_code == 2
    assert "mien[parquet]" in said.stderr


def test_a_table_that_cannot_be_converted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OutputError("r.parquet cannot be made")

    monkeypatch.setattr("service.cli.parquet.from_csv", full)
    said = mien("analyze", photo(tmp_path, "a.jpg"), "--out", tmp_path / "r.parquet")
    assert said.exit_code == 1
    assert "mien: r.parquet cannot be made" in said.stderr
    assert (tmp_path / "r.parquet.unfinished.csv").is_file()


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with open_output(path, {}):
        said = mien("analyze", photo(tmp_path, "a.jpg"), "--out", path)
    assert said.exit_code == 2
    assert said.stderr == f"mien: another run is writing {path}\n"
    assert path.read_bytes() == b""


def test_a_password_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with broadcast(1) as url:
        said = mien("analyze", url.replace("//", "//me:secret@"), "--json", "--out", path)
    assert said.exit_code == 0, said.output
    assert lines(path)[0]["source"] == url.replace("//", "//me:***@")
    assert "secret" not in said.output
    gone = mien("analyze", url.replace("//", "//me:secret@"))
    assert gone.stderr == f"{url.replace('//', '//me:***@')}: it cannot be opened as a video\n"


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = mien("analyze", tmp_path / "empty", tmp_path / "*.jpg")
    assert said.exit_code == 1
    assert len(said.stderr.splitlines()) == 2


def test_bad_videos_are_told_of_and_the_run_goes_on(tmp_path: Path) -> None:
    bad = photo(tmp_path, "bad.mp4", b"no video")
    path = tmp_path / "r.jsonl"
    said = mien("analyze", bad, tmp_path / "missing.mp4", photo(tmp_path, "a.jpg"), "--out", path)
    assert said.exit_code == 1
    assert len(lines(path)) == 1
    assert "missing.mp4: no such file" in said.stderr
    assert "2 failed" in said.stderr


def start(*args: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MIEN, "analyze", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Small, so that it waits for who reads, and is not done before it is told to stop.
        pipesize=4096,
        # What a shell starts in the background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("how", "status", "flags"),
    [(signal.SIGINT, 130, ()), (signal.SIGKILL, -signal.SIGKILL, ("--tracks",))],
)
def test_cut_off_in_a_video_nothing_is_lost_or_twice(
    tmp_path: Path, how: signal.Signals, status: int, flags: tuple[str, ...]
) -> None:
    inputs = photo(tmp_path, "a.jpg"), clip(tmp_path / "b.mp4", 40), photo(tmp_path, "c.jpg")
    path = tmp_path / "r.jsonl"
    with start(*inputs, "--json", *flags, "--out", path) as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(how)
        _, said = process.communicate(timeout=100)
    assert process.returncode == status
    assert "Traceback" not in said
    done = len(lines(path))
    assert 4 <= done < 42
    again = mien("analyze", *inputs, *flags, "--out", path)
    assert again.exit_code == 0, again.output
    # With tracks the video begins anew.
    assert f"{41 if flags else 42 - done} analysed" in again.stderr
    assert "1 done before" in again.stderr
    names = [Path(line["request_id"]).name for line in lines(path)]
    assert names == ["a.jpg", *(f"b.mp4#{n}" for n in range(40)), "c.jpg"]


def test_the_unfinished_video_must_be_named(tmp_path: Path) -> None:
    path, video = tmp_path / "r.jsonl", Input(str(tmp_path / "b.mp4"), "video")
    with open_output(path, {}) as output:
        output.begin(video, every=1, whole=False)
        output.write(Record(video.name, result(), 0, 0.0))
    before = path.read_bytes()
    refused = mien("analyze", photo(tmp_path, "a.jpg"), "--out", path)
    assert refused.exit_code == 2
    assert "b.mp4 is unfinished" in refused.stderr
    assert path.read_bytes() == before


def test_a_camera_until_it_is_left(tmp_path: Path) -> None:
    path, drawn = tmp_path / "r.jsonl", tmp_path / "drawn.mp4"
    with broadcast(100_000) as url:
        for _ in range(2):
            with start(url, "--json", "--out", path, "--annotate", drawn) as process:
                assert process.stdout is not None
                for _ in range(2):
                    process.stdout.readline()
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=100)
            assert process.returncode == 130
            assert "Traceback" not in said
    assert {line["source"] for line in lines(path)} == {url}
    frames = [line["frame"] for line in lines(path)]
    assert frames == sorted(set(frames))
    assert len(frames) >= 4
    assert cv2.VideoCapture(str(drawn)).read()[0]


def test_a_bar_on_a_terminal(folder: Path, tmp_path: Path) -> None:
    terminal, other_end = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [*MIEN, "analyze", str(folder), "--out", str(tmp_path / "r.csv")], stderr=other_end
    ) as process:
        os.close(other_end)
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:  # the other end is closed
            pass
    os.close(terminal)
    assert process.returncode == 0
    assert b"8/8" in shown
    assert b"/s" in shown


def test_through_a_server_it_is_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = photo(tmp_path, "bad.jpg", b"no image")
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    assert mien("analyze", folder, bad, "--tracks", "--out", here).exit_code == 1
    with serving("--api-keys", "k1") as (_, url):
        server = ("--server", url)
        refused = mien("analyze", folder, *server)
        assert refused.exit_code == 2
        assert "unauthorized" in refused.stderr
        monkeypatch.setenv("MIEN_API_KEY", "k1")
        done = mien("analyze", folder, bad, "--tracks", "--out", there, *server)
    assert done.exit_code == 1
    assert "bad.jpg: invalid_image" in done.stderr
    assert results(here) == results(there)


def test_a_server_that_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with serving() as (server, url):
        args = (clip(tmp_path / "b.mp4", 60), "--json", "--out", path, "--server", url)
        with start(*args) as process:
            assert process.stdout is not None
            process.stdout.readline()
            server.kill()
            _, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert 1 <= len(lines(path)) < 60


def test_more_at_a_time_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_MAX_PENDING_IMAGES", "2")
    monkeypatch.setenv("MIEN_MAX_BATCH_IMAGES", "2")
    for number in range(6):
        photo(tmp_path, f"{number}.jpg")
    path = tmp_path / "r.jsonl"
    assert mien("analyze", tmp_path, "--jobs", "6", "--out", path).exit_code == 0
    assert len(lines(path)) == 6


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_MAX_BYTES", "1000")
    done = mien("analyze", photo(tmp_path, "a.jpg", b"x" * 5000))
    assert done.exit_code == 1
    assert "the image has 5,000 bytes, the limit is 1,000" in done.stderr
