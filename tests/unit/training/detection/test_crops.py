from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.types import Box
from tests.fakes import FakeDetector
from tests.unit.training.makers import face
from training.__main__ import app
from training.datasets import Samples
from training.detection.augment import Augment
from training.detection.batches import SceneBatches
from training.detection.crops import crops
from training.detection.recipe import load_recipe
from training.detection.scenes import scene


def samples(count: int) -> Samples:
    return Samples(
        name="utkface",
        images=[cv2.cvtColor(face(seed, 80), cv2.COLOR_GRAY2BGR) for seed in range(count)],
        boxes=[Box(0, 0, 80, 80)] * count,
        framing=None,
        labels={},
        targets={},
        groups=np.arange(count),
        usage=np.full(count, ""),
    )


def test_a_crop_has_the_box_and_points_that_the_detector_gives() -> None:
    (made,) = crops(samples(1), FakeDetector((0.25, 0.125, 0.5, 0.75), landmarks=True))
    np.testing.assert_array_equal(made.boxes, [[20, 10, 40, 60]])
    assert np.isfinite(made.points).all()
    assert made.pixels().shape == (80, 80, 3)
    assert np.abs(made.pixels().astype(int) - samples(1).images[0]).mean() < 4


def test_a_face_that_is_not_found_or_not_in_the_middle_is_left_out() -> None:
    assert list(crops(samples(2), FakeDetector())) == []
    assert list(crops(samples(2), FakeDetector((0.0, 0.0, 0.3, 0.3)))) == []


def test_every_batch_has_its_crops() -> None:
    plan = load_recipe("detector").model_copy(update={"side": 64, "augment": Augment(mosaic=0)})
    dark = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    photos = [scene(f"{n}.png", dark, []) for n in range(plan.scenes)]
    pasted = list(crops(samples(3), FakeDetector((0.25, 0.25, 0.5, 0.5))))
    (batch,) = SceneBatches(plan, photos, pasted, 0, 0)
    images, targets = batch
    assert len(images) == len(targets) == plan.scenes + plan.crops
    scores = targets[..., 0]
    assert (scores > 0).any(axis=1).tolist() == [False] * plan.scenes + [True] * plan.crops


def test_crops_need_their_sets_and_a_detector(tmp_path: Path) -> None:
    (tmp_path / "scenes.zip").write_bytes(b"")
    result = CliRunner().invoke(app, ["train-detector", str(tmp_path / "scenes.zip")])
    assert result.exit_code == 2
    assert "--yunet" in result.output


@pytest.mark.parametrize("name", ["detector"])
def test_the_recipe_names_the_sets_that_it_pastes(name: str) -> None:
    plan = load_recipe(name)
    assert plan.crops > 0
    assert {"UTKFace", "All-Age-Faces"} <= {one.name for one in plan.data}
