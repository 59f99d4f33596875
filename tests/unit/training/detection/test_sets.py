from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.training.makers import face
from training.datasets import DatasetError
from training.detection.sets import load


def picture(seed: int, width: int = 40, height: int = 30) -> bytes:
    pixels = cv2.resize(face(seed), (width, height))
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_lines(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for seed, row in enumerate(rows):
            archive.writestr(str(row["file"]), picture(seed))
    path.with_suffix(".jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_lines(tmp_path: Path) -> None:
    points = [[12, 13], [18, 13], [15, 16], [13, 19], [17, 19]]
    faces = [
        {"xywh": [10, 10, 10, 12], "landmarks": points, "score": 0.9, "source": "hand+yunet"},
        {"xywh": [1, 2, 3, 4], "landmarks": None, "score": None, "source": "hand"},
        {"xywh": [5, 6, 7, 8], "landmarks": points, "score": 0.8, "source": "yunet"},
    ]
    rows = [
        {"file": "a.png", "width": 40, "height": 30, "group": "g", "faces": faces},
        {"file": "b.png", "width": 40, "height": 30, "group": "h", "faces": []},
    ]
    first, second = load(write_lines(tmp_path, rows))
    assert first.boxes.tolist() == [[10, 10, 10, 12], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert np.isnan(first.points).all(axis=(1, 2)).tolist() == [False, True, False]
    assert first.doubtful.tolist() == [False, False, True]
    assert (first.group, first.pixels().shape) == ("g", (30, 40, 3))
    assert second.boxes.shape == (0, 4)


def test_wider_face(tmp_path: Path) -> None:
    photos = tmp_path / "WIDER_train" / "images" / "0--Parade"
    photos.mkdir(parents=True)
    for name in ("one.jpg", "two.jpg"):
        (photos / name).write_bytes(picture(1))
    labels = tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    labels.parent.mkdir()
    labels.write_text(
        "0--Parade/one.jpg\n3\n1 2 10 12 0 0 0 0 0 0\n5 5 6 7 2 0 0 1 0 0\n9 9 0 4 0 0 0 0 0 0\n"
        "0--Parade/two.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
    )
    one, two = load(labels)
    assert one.boxes.tolist() == [[1, 2, 10, 12], [5, 5, 6, 7], [9, 9, 0, 4]]
    assert one.ignored.tolist() == [False, True, True]
    assert np.isnan(one.points).all()
    assert len(two.boxes) == 0
    assert one.group == two.group == "0--Parade"


def wider(folder: Path, text: str, labels: str = "wider_face_split") -> Path:
    photos = folder / "WIDER_train" / "images" / "0--Parade"
    photos.mkdir(parents=True)
    (photos / "one.jpg").write_bytes(picture(1))
    path = folder / labels / "wider_face_train_bbx_gt.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_wider_list_may_lie_beside_its_photos(tmp_path: Path) -> None:
    (one,) = load(wider(tmp_path, "0--Parade/one.jpg\n1\n1 2 10 12 0 0 0 0 0 0\n", "."))
    assert one.boxes.tolist() == [[1, 2, 10, 12]]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no photo"),
        ("0--Parade/one.jpg\n2\n1 2 10 12 0 0 0 0 0 0\n", r"one\.jpg: .* 2 lines"),
        ("0--Parade/one.jpg\n1\n1 2 10 12\n", r"one\.jpg: .* 10 numbers"),
        ("0--Parade/one.jpg\n1\n1.5 2 10 12 0 0 0 0 0 0\n", r"one\.jpg: .*1\.5"),
        ("0--Parade/one.jpg\n-1\n", r"one\.jpg: .* -1 lines"),
        ("0--Parade/one.jpg\n", r"one\.jpg: "),
        ("0--Parade/two.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n", r"two\.jpg"),
        ("0--Parade\n0\n0 0 0 0 0 0 0 0 0 0\n", "0--Parade: "),
        ("../../wider_face_split/wider_face_train_bbx_gt.txt\n0\n0 0\n", "not below"),
        ("/etc/hostname\n0\n0 0 0 0 0 0 0 0 0 0\n", "not below"),
    ],
)
def test_a_wider_list_that_is_broken_names_its_photo(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(DatasetError, match=fault):
        load(wider(tmp_path, text))


def test_a_wider_list_without_photos_or_not_of_text_is_refused(tmp_path: Path) -> None:
    alone = tmp_path / "wider_face_val_bbx_gt.txt"
    with pytest.raises(DatasetError, match="No such file"):
        load(alone)
    alone.write_text("0--Parade/one.jpg\n")
    with pytest.raises(DatasetError, match="WIDER_val"):
        load(alone)
    binary = wider(tmp_path, "")
    binary.write_bytes(b"\xe9.jpg\n")
    with pytest.raises(DatasetError, match="utf-8"):
        load(binary)


LINE = {"file": "a.png", "group": "g", "faces": []}
BOX = [1, 2, 3, 4]


def faces(xywh: object, **more: object) -> dict[str, object]:
    return {**LINE, "faces": [{"xywh": xywh, "source": "hand", **more}]}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"file": "a.png"}, "line 2: group: "),
        ([1], "line 2: "),
        ({**LINE, "group": 5}, "line 2: group"),
        ({**LINE, "file": "b.png"}, r"line 2: .*b\.png"),
        ({**LINE, "faces": [{"xywh": BOX}]}, "line 2: faces.0.source"),
        (faces([1, 2, 3]), r"line 2: faces\.0\.xywh"),
        (faces(BOX * 2), r"line 2: faces\.0\.xywh"),
        (faces(["a", 2, 3, 4]), r"line 2: faces\.0\.xywh"),
        (faces([1, 2, -3, 4]), r"line 2: faces\.0\.xywh\.2"),
        (faces([1, 2, 3, 0]), r"line 2: faces\.0\.xywh\.3"),
        (faces([float("nan"), 2, 3, 4]), r"line 2: faces\.0\.xywh\.0"),
        (faces([1, float("inf"), 3, 4]), r"line 2: faces\.0\.xywh\.1"),
        (faces(BOX, landmarks=[[1, 1]] * 4), r"line 2: faces\.0\.landmarks"),
    ],
)
def test_a_line_that_is_broken_is_named(tmp_path: Path, row: object, fault: str) -> None:
    path = write_lines(tmp_path, [LINE])
    path.with_suffix(".jsonl").write_text(f"{json.dumps(LINE)}\n{json.dumps(row)}\n")
    with pytest.raises(DatasetError, match=fault):
        load(path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "no photo"), (b"{bad\n", "line 1: "), (b"\xff\xfe\x00", "utf-8")],
)
def test_lines_that_are_none_are_told(tmp_path: Path, content: bytes, fault: str) -> None:
    path = write_lines(tmp_path, [LINE])
    path.with_suffix(".jsonl").write_bytes(content)
    with pytest.raises(DatasetError, match=fault):
        load(path)


def test_a_damaged_zip_names_its_photo(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [LINE])
    content, place = path.read_bytes(), picture(0)[20:40]
    path.write_bytes(content.replace(place, bytes(len(place))))
    with pytest.raises(DatasetError, match=r"line 1: .*a\.png"):
        load(path)


@pytest.mark.parametrize(
    ("photos", "labels", "given"),
    [
        (".", ".", "."),
        ("images", "labels", "."),
        ("images/train", "labels/train", "."),
        ("images", "labels", "images"),
        ("myimages/images", "myimages/labels", "."),
        ("images/a/images", "images/a/labels", "."),
    ],
)
def test_yolo(tmp_path: Path, photos: str, labels: str, given: str) -> None:
    for folder in (photos, labels):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / photos / "images1.png").write_bytes(picture(1))
    (tmp_path / photos / "other.png").write_bytes(picture(2))
    (tmp_path / labels / "images1.txt").write_text("0 0.5 0.5 0.25 0.2\n1 1 1 0.5 0.5 0.9\n")
    with_faces, without = load(tmp_path / given)
    expected = [[15, 12, 10, 6], [30, 22.5, 20, 15]]
    np.testing.assert_allclose(with_faces.boxes, expected, atol=1e-4)
    assert len(without.boxes) == 0


@pytest.mark.parametrize(
    "row",
    [
        "0",
        "0 0.5 0.5 0.2",
        "face a b c d",
        "0 nan 0.5 0.2 0.2",
        "0 inf 0.5 0.2 0.2",
        "0 0.5 0.5 -0.2 0.2",
        "0 0.5 0.5 0.2 0",
        "0 200 150 100 80",
        "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.4",
    ],
)
def test_a_yolo_label_that_is_broken_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "a.txt").write_text(f"0 0.5 0.5 0.25 0.2\n{row}\n")
    with pytest.raises(DatasetError, match=r"a\.txt, line 2: "):
        load(tmp_path)


def test_photos_without_any_label_are_no_set(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    with pytest.raises(DatasetError, match="no photo has YOLO labels"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "b.png"])
def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match=name):
        load(tmp_path)


@pytest.mark.parametrize("name", ["none.zip", "NONE.ZIP", "folder"])
def test_what_is_no_set_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError):
        load(tmp_path / name)
