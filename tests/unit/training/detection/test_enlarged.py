from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import FakeDetector
from training.detection.enlarged import Enlarged, with_enlarged


@pytest.mark.parametrize(
    ("size", "shown"),
    [((100, 200), (150, 300)), ((300, 500), (384, 640)), ((400, 640), (400, 640))],
)
def test_a_peer_is_shown_what_ours_is_and_boxes_come_back(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    inner = FakeDetector((0.5, 0.5, 0.2, 0.2))
    peer = Enlarged(inner)
    pixels = np.zeros((*size, 3), np.uint8)
    (face,) = peer.detect(pixels, threshold=None, min_face_px=0)
    assert inner.shapes == [(*shown, 3)]
    height, width = size
    assert face.box.x == pytest.approx(width / 2)
    assert face.box.height == pytest.approx(height / 5)
    assert peer.detect(pixels, threshold=None, min_face_px=face.box.side + 1) == []
    assert (peer.id, peer.max_side) == (inner.id, 640)


def test_only_yunet_is_measured_twice() -> None:
    peers = {name: FakeDetector() for name in ("yunet", "haar")}
    assert list(with_enlarged(peers)) == ["yunet", "yunet, enlarged", "haar"]
