"""The committed models say today what they said when their golden results were written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.golden import golden

# ONNX Runtime's kernels differ in the last bits between processors; boxes move by rounding.
TOLERANCE = {"probability": 2e-3, "box": 1.0}
# A float's last bit can move an int8 by one step, and that by one in the layers after it.
VARIANT_TOLERANCE = TOLERANCE | {"probability": 3e-2}


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    import asyncio

    return asyncio.run(golden.results())


@pytest.mark.parametrize("name", golden.MODELS)
def test_golden_result(given, name):
    expected, actual = golden.load(name), given[name]
    assert actual["image"] == expected["image"]
    assert actual["models"] == expected["models"]
    assert len(actual["faces"]) == len(expected["faces"]) == 1
    tolerance = VARIANT_TOLERANCE if golden.variant(name) else TOLERANCE
    (face,), (golden_face,) = actual["faces"], expected["faces"]
    for side, value in face["box"].items():
        assert value == pytest.approx(golden_face["box"][side], abs=tolerance["box"])
    heads = [head for head in golden_face if head in ("emotion", "gender", "age")]
    assert heads
    for head in heads:
        assert face[head]["label"] == golden_face[head]["label"]
        for label, value in golden_face[head]["probabilities"].items():
            assert face[head]["probabilities"][label] == pytest.approx(
                value, abs=tolerance["probability"]
            )


def test_golden_faces() -> None:
    expected, actual = golden.load("detector"), golden.faces()
    assert len(actual) == len(expected) == 1
    (face,), (golden_face,) = actual, expected
    for key, tolerance in (("box", 1.0), ("landmarks", 1.0), ("score", 1e-2)):
        np.testing.assert_allclose(face[key], golden_face[key], atol=tolerance)
