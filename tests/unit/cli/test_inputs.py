from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.cli.inputs import Input, expand


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    names = [
        "b.JPG",
        "a.png",
        "notes.txt",
        "deep/er/c.webp",
        "deep/clip.MP4",
        ".hidden.jpg",
        ".git/d.jpg",
        "drawn/a.png",
    ]
    for name in [*names, "with space/ä ö.jpeg", "results.jsonl"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_is_all_images_and_videos_below_it(tree: Path) -> None:
    inputs, faults = expand(["."], without=[Path("drawn"), Path("results.jsonl")])
    assert [each.source for each in inputs] == [
        "a.png",
        "b.JPG",
        "deep/clip.MP4",
        "deep/er/c.webp",
        "with space/ä ö.jpeg",
    ]
    assert [each.kind for each in inputs] == ["photo", "photo", "video", "photo", "photo"]
    assert faults == []


def test_a_path_is_done_once_however_it_is_written(tree: Path) -> None:
    inputs, _ = expand(["a.png", "./a.png", str(tree / "a.png"), "deep/../a.png", ".", "*.png"])
    assert [each.source for each in inputs][:2] == ["a.png", "b.JPG"]
    assert len(inputs) == 6


def test_globs(tree: Path) -> None:
    assert [each.source for each in expand(["*.[Jp]*"])[0]] == ["a.png", "b.JPG"]
    assert [each.source for each in expand(["**/*.MP4"])[0]] == ["deep/clip.MP4"]
    assert [each.source for each in expand(["d*p"])[0]] == ["deep/clip.MP4", "deep/er/c.webp"]


def test_a_name_that_looks_like_a_glob(tree: Path) -> None:
    (tree / "a[1].jpg").touch()
    (tree / "a1.jpg").touch()
    assert expand(["a[1].jpg"])[0] == [Input("a[1].jpg", "photo")]


def test_what_stands_for_nothing_is_told(tree: Path) -> None:
    (tree / "empty").mkdir()
    inputs, faults = expand(["empty", "*.bmp", "drawn"], without=[Path("drawn/a.png")])
    assert inputs == []
    assert [fault.partition(":")[0] for fault in faults] == ["empty", "*.bmp", "drawn"]


def test_what_is_named_is_taken_whatever_it_is_called(tree: Path) -> None:
    inputs, faults = expand(["notes.txt", ".hidden.jpg", "missing.jpg"])
    assert [each.kind for each in inputs] == ["photo"] * 3
    assert faults == []


def test_live_sources(tree: Path) -> None:
    names = ["rtsp://user@host//path?x=1", "camera:0"]
    inputs, _ = expand([*names, *names])
    assert inputs == [Input(name, "live") for name in names]
    assert [each.key for each in inputs] == names


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rtsp://me:secret@host:554/1", "rtsp://me:***@host:554/1"),
        ("http://:secret@host/a@b", "http://:***@host/a@b"),
        ("rtsp://me:s@e:cret@host", "rtsp://me:***@host"),
        ("rtsp://me:sec/ret@host/1", "rtsp://me:***@host/1"),
        ("rtsp://me@host/1", "rtsp://me@host/1"),
        ("rtsp://host:554/a@b", "rtsp://host:554/a@b"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
    ],
)
def test_a_password_is_no_part_of_a_name(url: str, name: str) -> None:
    (live,), _ = expand([url])
    assert (live.source, live.name, live.key) == (url, name, name)


def test_a_link_to_a_folder_above_ends(tree: Path) -> None:
    os.symlink(tree, tree / "deep" / "up")
    assert len(expand(["deep"])[0]) == 2
