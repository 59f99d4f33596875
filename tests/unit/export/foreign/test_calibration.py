from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.foreign.calibration import FEWEST, fit_calibration
from export.foreign.folder import adopt, open_source
from export.foreign.graph import Foreign, as_logits, fit
from tests.unit.export.foreign.makers import save, wish
from tests.unit.training.makers import write_fer2013
from training import calibrate
from training.batches import whole_crops
from training.datasets import Samples, load_parts
from training.datasets.splits import fold_numbers
from training.labels import narrowed
from training.metrics import calibration_error

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return fit(open_source(*save("keras", tmp_path)), wish())


@pytest.fixture
def public(tmp_path: Path) -> Samples:
    """130 images, ten of them disgusted, which the model does not know."""
    rows = [(3, 1, "Training"), *((1, seed, "PublicTest") for seed in range(10, 20))]
    rows += [((0, 3, 3, 6)[seed % 4], seed, "PublicTest") for seed in range(20, 140)]
    return load_parts("fer2013", write_fer2013(tmp_path, rows))["validation"]


def test_a_head_is_fitted_on_what_it_is_measured_on(
    foreign: Foreign, public: Samples, tmp_path: Path
) -> None:
    card = adopt(foreign.model, foreign.wish, tmp_path / "models", {"fer2013": public})
    known = narrowed(public, foreign.labels)
    logits = as_logits(foreign.reference(whole_crops(known, foreign.input), {})["emotion"])
    labels = known.labels["emotion"]
    head = card.heads["emotion"]
    assert len(known) == 120
    assert head.temperature != 1
    assert head.temperature == pytest.approx(calibrate.temperature(logits, labels), abs=2e-3)
    probabilities = calibrate.softmax(logits, head.temperature)
    assert head.uncertain_below == calibrate.uncertain_below(probabilities, labels)
    assert card.parity.max_abs_error <= 1e-4
    assert card.explain_sha256
    ece = next(metric.value for metric in card.metrics if metric.name == "ece")
    assert ece == pytest.approx(calibration_error(probabilities, labels), abs=2e-3)


def test_its_ece_is_told_of_folds_that_did_not_fit_it(
    foreign: Foreign, public: Samples, tmp_path: Path
) -> None:
    found = fit_calibration(foreign, foreign.write(tmp_path), {"fer2013": public})["emotion"]
    known = narrowed(public, foreign.labels)
    logits = as_logits(foreign.reference(whole_crops(known, foreign.input), {})["emotion"])
    labels = known.labels["emotion"]
    folds = fold_numbers("fer2013", known.groups, calibrate.FOLDS)
    crossed = np.zeros((len(known), 3))
    for fold in range(calibrate.FOLDS):
        mine = folds == fold
        heat = calibrate.temperature(logits[~mine], labels[~mine])
        crossed[mine] = calibrate.softmax(logits[mine], heat)
    assert found.ece == pytest.approx(calibration_error(crossed, labels), abs=2e-3)
    limits = adopt(foreign.model, foreign.wish, tmp_path / "models", {"fer2013": public}).limits
    assert any(f"its ECE is {found.ece:.1%}" in line for line in limits)


def test_a_set_that_is_framed_otherwise_measures_but_calibrates_nothing(
    foreign: Foreign, public: Samples, tmp_path: Path
) -> None:
    said = wish(input={"color": "gray", "scaling": "-1..1", "framing": {"scale": 1.6}})
    card = adopt(foreign.model, said, tmp_path / "models", {"fer2013": public})
    assert card.metrics
    assert card.heads["emotion"].temperature == 1
    assert any("no temperature was fitted" in line for line in card.limits)
    wide = fit(foreign.model, said)
    margin = replace(public, framing=None)  # faces are cut out of it as the card says
    assert "emotion" in fit_calibration(wide, wide.write(tmp_path), {"fer2013": margin})


def test_too_few_images_and_other_heads_calibrate_nothing(
    foreign: Foreign, public: Samples, tmp_path: Path
) -> None:
    few = public.take(np.arange(FEWEST))  # ten of them are of an unknown label
    other = replace(public, labels={}, targets={})
    path = foreign.write(tmp_path)
    assert fit_calibration(foreign, path, {"few": few, "other": other}) == {}
