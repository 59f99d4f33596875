from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.training.makers import face
from training.datasets import DatasetError
from training.detection.scenes import Scene, fingerprints, load, mosaics, parts, scene


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


def test_a_wider_list_that_is_cut_off_names_its_photo(tmp_path: Path) -> None:
    path = tmp_path / "wider_face_train_bbx_gt.txt"
    path.write_text("0--Parade/one.jpg\n2\n1 2 10 12 0 0 0 0 0 0\n")
    with pytest.raises(DatasetError, match=r"one\.jpg"):
        load(path)


@pytest.mark.parametrize("layout", ["beside", "labels"])
def test_yolo(tmp_path: Path, layout: str) -> None:
    photos = tmp_path / ("images" if layout == "labels" else ".")
    texts = tmp_path / "labels" if layout == "labels" else photos
    for folder in (photos, texts):
        folder.mkdir(exist_ok=True)
    (photos / "a.png").write_bytes(picture(1))
    (photos / "b.png").write_bytes(picture(2))
    (texts / "a.txt").write_text("0 0.5 0.5 0.25 0.2\n")
    with_face, without = load(tmp_path)
    np.testing.assert_allclose(with_face.boxes, [[15, 12, 10, 6]], atol=1e-4)
    assert len(without.boxes) == 0


@pytest.mark.parametrize("name", ["none.zip", "folder"])
def test_what_is_no_set_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError):
        load(tmp_path / name)


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (scene,) = load(tmp_path)
    with pytest.raises(DatasetError, match=r"broken\.png"):
        scene.pixels()


def test_a_group_lies_on_one_side_whatever_else_is_there(tmp_path: Path) -> None:
    rows = [{"file": f"{n}.png", "group": f"{n // 2}", "faces": []} for n in range(200)]
    scenes = load(write_lines(tmp_path, rows))
    found = parts(scenes)
    sides = {part: {scene.group for scene in some} for part, some in found.items()}
    assert sum(len(some) for some in found.values()) == 200
    assert not sides["train"] & sides["tune"] | sides["train"] & sides["validation"]
    fewer = parts(scenes[::2])
    assert {scene.group for scene in fewer["validation"]} == sides["validation"]
    assert fingerprints(found.items())["train"]["scenes"] == len(found["train"])


def test_mosaics_put_scenes_with_their_faces_in_a_grid() -> None:
    def one(width: int, height: int, level: int) -> Scene:
        pixels = np.full((height, width, 3), level, np.uint8)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        points = np.full((1, 5, 2), 6.0)
        return scene(f"{level}.png", data, [[4, 6, 8, 10]], points=points, doubtful=[level > 30])

    singles = [one(60, 40, 20), one(200, 100, 30), one(50, 50, 40), one(50, 50, 50), one(9, 9, 60)]
    (whole,) = mosaics(singles, 2, side=200)
    pixels = whole.pixels()
    assert pixels.shape == (200, 200, 3)
    assert [int(pixels[y, x, 0]) for y, x in ((5, 5), (5, 105), (105, 5), (105, 105), (70, 5))] == [
        20,
        30,
        40,
        50,
        0,
    ]
    # The second is shrunk by half.
    expected = [[4, 6, 8, 10], [102, 3, 4, 5], [4, 106, 8, 10], [104, 106, 8, 10]]
    assert whole.boxes.tolist() == expected
    assert whole.points[1, 0].tolist() == [103, 3]
    assert whole.doubtful.tolist() == [False, False, True, True]
