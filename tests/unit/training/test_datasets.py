from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.makers import face, write_faces, write_fer2013, write_votes
from training.datasets import DatasetError, load_sets, load_validation, parts
from training.datasets.all_age_faces import load as load_aaf
from training.datasets.fer2013 import load as load_fer
from training.datasets.samples import age_band, age_targets
from training.datasets.utkface import load as load_utk


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, 0), (18, 0), (19, 1), (30, 1), (31, 2), (80, 2), (81, 3), (116, 3)],
)
def test_age_bands(age: int, band: int) -> None:
    assert age_band(age) == band


def test_age_targets_are_soft_at_an_edge_and_sure_in_the_middle() -> None:
    targets = age_targets(np.array([5, 18, 19, 55]))
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert targets[0, 0] > 0.999
    assert 0.5 < targets[1, 0] < 0.9
    assert 0.5 < targets[2, 1] < 0.9
    assert targets[3, 2] > 0.999


def test_fer2013_reads_rows_and_mixes_translated_votes(tmp_path: Path) -> None:
    rows = [(3, 1, "Training"), (4, 2, "Training"), (0, 3, "Training"), (6, 4, "PublicTest")]
    write_fer2013(tmp_path, rows)
    write_votes(
        tmp_path,
        # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF
        [
            "0,10,0,0,0,0,0,0,0,0",
            "0,10,0,0,0,0,0,0,0,0",
            "0,0,0,0,1,0,0,0,0,9",
            "0,0,0,0,0,0,0,10,0,0",
        ],
    )
    samples = load_fer(tmp_path)
    assert samples.labels["emotion"].tolist() == [3, 4, 0, 6]
    assert np.array_equal(samples.images[1], face(2))
    targets = samples.targets["emotion"]
    # A vote for happy means happy or sad here, half each, by the official labels.
    np.testing.assert_allclose(targets[0], [0, 0, 0, 0.85, 0.15, 0, 0], atol=1e-6)
    np.testing.assert_allclose(targets[1], [0, 0, 0, 0.15, 0.85, 0, 0], atol=1e-6)
    assert targets[2].sum() == 0  # most voters saw no face
    np.testing.assert_allclose(targets[3], np.eye(7)[6])  # no vote for one of the seven


def test_fer2013_without_votes_has_official_targets(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path, [(2, 1, "Training")])
    assert load_fer(path).targets["emotion"][0, 2] == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("7,0 0,Training", "emotion 7"),
        ("x,0 0,Training", "invalid literal"),
        ("1,0 0 0,Training", "2304 pixels expected, 3 found"),
        ("1,0 0", "3 fields expected, 2 found"),
        (f"1,{' '.join(['256'] * 2304)},Training", "0..255"),
        (f"1,{' '.join(['25'] * 2304)},Elsewhere", "Elsewhere"),
    ],
)
def test_fer2013_names_the_bad_row(tmp_path: Path, row: str, reason: str) -> None:
    path = write_fer2013(tmp_path, [(3, 1, "Training")])
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(DatasetError, match="row 3") as caught:
        load_fer(path)
    assert reason in str(caught.value)


def test_fer2013_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        load_fer(tmp_path)
    (tmp_path / "fer2013.csv").write_text("a,b\n")
    with pytest.raises(DatasetError, match="first row"):
        load_fer(tmp_path)
    write_fer2013(tmp_path, [])
    with pytest.raises(DatasetError, match="has no rows"):
        load_fer(tmp_path)
    (tmp_path / "fer2013.csv").write_bytes(b"PK\xff\xfe")
    with pytest.raises(DatasetError, match="is no CSV"):
        load_fer(tmp_path)


def test_fer2013_refuses_votes_that_do_not_fit(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path, [(3, 1, "Training")])
    write_votes(tmp_path, [])
    with pytest.raises(DatasetError, match="0 rows, the images have 1"):
        load_fer(path)
    write_votes(tmp_path, ["a,0,0,0,0,0,0,0,0,0"])
    with pytest.raises(DatasetError, match="row 2: a vote"):
        load_fer(path)
    (tmp_path / "fer2013new.csv").write_text("Usage,anger\n")
    with pytest.raises(DatasetError, match="lacks the columns"):
        load_fer(path)


def test_utkface_reads_a_folder_and_a_zip(tmp_path: Path) -> None:
    names = {"20_1_2_20170116174525125.png": 1, "81_0_0_20170116174525126.png": 2}
    folder = write_faces(tmp_path / "utk", names)
    archive = Path(shutil.make_archive(str(tmp_path / "utk"), "zip", folder))
    for path in (folder, archive):
        samples = load_utk(path)
        assert samples.labels["gender"].tolist() == [0, 1]  # female, male
        assert samples.labels["age"].tolist() == [1, 3]
        assert samples.attributes["race"].tolist() == ["Asian", "White"]
        assert samples.attributes["gender"].tolist() == ["female", "male"]
        assert samples.attributes["age"].tolist() == ["19-30", "80+"]
        assert samples.take(np.array([1])).attributes["race"].tolist() == ["White"]
        assert samples.images[0].shape == (56, 56, 3)
    side = samples.boxes[0].side
    assert side == pytest.approx(0.986 * 56)
    # Its framing lays out the whole image.
    assert samples.framing is not None
    assert side * samples.framing.scale == pytest.approx(56, rel=0.01)
    middle = samples.boxes[0].center[1] + side * samples.framing.shift_y
    assert middle == pytest.approx(28, abs=0.5)


def test_utkface_groups_copies_and_equal_dates(tmp_path: Path) -> None:
    names = {
        "20_1_2_20170116174525125.png": 1,
        "21_1_2_20170116174525125.png": 2,
        "30_1_2_20170116174525127.png": 1,
        "40_1_2_20170116174525128.png": 3,
    }
    groups = load_utk(write_faces(tmp_path / "utk", names)).groups
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_all_age_faces_reads_gender_from_the_number(tmp_path: Path) -> None:
    samples = load_aaf(write_faces(tmp_path / "aaf", {"07380A02.png": 1, "07381A31.png": 2}))
    assert samples.labels["gender"].tolist() == [0, 1]
    assert samples.labels["age"].tolist() == [0, 2]
    assert samples.attributes["gender"].tolist() == ["female", "male"]
    assert samples.attributes["age"].tolist() == ["0-18", "31-80"]
    assert samples.framing is None
    assert samples.boxes[0].side == pytest.approx(0.524 * 56)


@pytest.mark.parametrize("load", [load_utk, load_aaf])
def test_bad_files_are_named(tmp_path: Path, load: object) -> None:
    assert callable(load)
    with pytest.raises(DatasetError, match="neither a folder nor a zip"):
        load(tmp_path / "none")
    with pytest.raises(DatasetError, match="holds no image"):
        load(tmp_path)
    write_faces(tmp_path, {"hello.png": 1})
    with pytest.raises(DatasetError, match=r"hello\.png is not"):
        load(tmp_path)
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"a\.png is not a readable image"):
        load(tmp_path)


def test_official_parts_leave_copies_of_the_test_out(tmp_path: Path) -> None:
    rows = [(3, seed, "Training") for seed in range(60)] + [(3, 5, "PublicTest")]
    result = parts(load_fer(write_fer2013(tmp_path, rows)))
    assert len(result["validation"]) == 1
    assert len(result["train"]) + len(result["tune"]) == 59
    assert len(result["tune"]) > 0


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (["ck=."], "no dataset 'ck'; there are fer2013, utkface, all_age_faces"),
        (["utkface"], "--data 'utkface' is not SET=PATH"),
        (["utkface="], "--data 'utkface=' is not SET=PATH"),
        (["utkface=.", "fer2013=.", "utkface=.."], "--data names utkface twice"),
        (["utkface=/nope"], "utkface: there is no /nope"),
    ],
)
def test_what_a_command_line_names_is_checked_before_it_is_read(
    items: list[str], reason: str
) -> None:
    for load in (load_sets, load_validation):
        with pytest.raises(DatasetError, match=re.escape(reason)):
            load(items)


def test_a_set_that_is_too_small_is_refused_by_part(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path, [(3, seed, "Training") for seed in range(60)])
    with pytest.raises(DatasetError, match="the validation part of fer2013 is empty"):
        load_validation([f"fer2013={path}"])
    write_fer2013(tmp_path, [(3, 5, "PublicTest")])
    assert len(load_validation([f"fer2013={path}"])["fer2013"]) == 1
    with pytest.raises(DatasetError, match="the train part of fer2013 is empty"):
        load_sets([f"fer2013={path}"])


def test_a_damaged_zip_names_the_file(tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "utk", {"20_1_2_20170116174525125.png": 1})
    path = Path(shutil.make_archive(str(tmp_path / "utk"), "zip", folder))
    data = bytearray(path.read_bytes())
    data[100:140] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"utk\.zip: 20_1_2_20170116174525125\.png is damaged"):
        load_utk(path)
