"""The real case: two published networks of Keras 2.0.5."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from export.foreign.folder import adopt, open_source
from export.foreign.wish import Wish
from service.runtime.registry import Model
from service.runtime.session import SessionOptions
from service.types import EMOTIONS, GENDERS
from service.vision.crops import crop_whole
from training.evaluate import open_session, run

pytestmark = [
    pytest.mark.shared,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CASES = {
    "emotion": ("fer2013_mini_XCEPTION.102-0.66.hdf5", EMOTIONS, 1.125, 58_423),
    "gender": ("gender_mini_XCEPTION.21-0.95.hdf5", GENDERS, 1.6, 52_658),
}


def public_test(path: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """FER2013's public test, out of the packed set: pictures 48x48 in sheets of 16x16."""
    images, labels = [], []
    with zipfile.ZipFile(path) as packed:
        rows = list(csv.reader(packed.read("labels.csv").decode().splitlines()))[1:]
        sheets: dict[int, NDArray[np.uint8]] = {}
        for number, (_, usage, label, *_) in enumerate(rows):
            if usage != "PublicTest":
                continue
            sheet, cell = divmod(number, 256)
            if sheet not in sheets:
                data = np.frombuffer(packed.read(f"sheet_{sheet:03}.webp"), np.uint8)
                sheets[sheet] = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
            top, left = (48 * place for place in divmod(cell, 16))
            images.append(sheets[sheet][top : top + 48, left : left + 48])
            labels.append(int(label))
    return images, np.array(labels)


def import_peer(shared: Path, models: Path, head: str) -> Path:
    file, labels, scale, parameters = CASES[head]
    wish = Wish.model_validate(
        {
            "name": f"peer_{head}",
            "source": "Arriaga et al. 2017, arXiv:1710.07557",
            "licence": "MIT",
            "labels": {head: labels},
            "input": {"color": "gray", "scaling": "-1..1", "framing": {"scale": scale}},
        }
    )
    source = open_source(shared / "peers" / file)
    assert source.origin.startswith("HDF5 file of Keras 2.0.5, read by tf-keras")
    card = adopt(source, wish, models, {})
    assert card.parameters == parameters
    assert card.parity.max_abs_error <= 1e-4
    return models / card.name


@pytest.mark.parametrize("head", CASES)
def test_peers_convert_and_are_served(head: str, shared: Path, tmp_path: Path) -> None:
    model = Model(import_peer(shared, tmp_path, head), SessionOptions(provider="cpu"))
    model.warm_up()
    assert list(model.card.heads) == [head]


@pytest.mark.slow
def test_the_emotion_network_reproduces_its_published_accuracy(
    shared: Path, tmp_path: Path
) -> None:
    folder = import_peer(shared, tmp_path, "emotion")
    images, labels = public_test(shared / "data" / "fer2013.zip")
    assert len(images) == 3589
    session = open_session(folder / "model.onnx")
    spec = Model(folder, SessionOptions(provider="cpu")).card.input

    resized = np.stack([cv2.resize(image, (64, 64))[..., None] for image in images])
    right = int((run(session, resized)["emotion"].argmax(axis=1) == labels).sum())
    assert right == pytest.approx(2351, abs=2)  # 65.5 %, with its authors' way to resize

    crops = np.stack([crop_whole(image, spec) for image in images])
    accuracy = float((run(session, crops)["emotion"].argmax(axis=1) == labels).mean())
    assert accuracy == pytest.approx(0.654, abs=2e-3)
