"""The wiring: settings in, an analyzer out that serves what they say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service import build
from service.build import default_options, explain_defaults, image_limits, open_analyzer
from service.card import load_card, load_detector_card
from service.core.explain import ExplainItem
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer, Options
from service.errors import HashMismatch, ModelError, NotReady
from service.settings import Settings
from service.types import HEADS
from tests.detectors import stub_detector
from tests.fakes import FakeDetector, encode, make_model_folder, noise

ALL: tuple[Any, ...] = HEADS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("models")
    make_model_folder(parent, "alpha")
    make_model_folder(parent, "bravo", heads=ALL, seed=1)
    return parent


def opened(folder: Path, metrics: Metrics | None = None, **options: Any) -> Analyzer:
    settings = Settings(models_dir=folder, **{"provider": "cpu"} | options)
    return open_analyzer(settings, metrics or Metrics(CollectorRegistry()))


async def test_the_real_parts_work_together(folder: Path) -> None:
    analyzer = opened(folder, slots=2, default_models=("bravo",))
    assert analyzer.unready == "warming up"
    await analyzer.start()
    try:
        assert analyzer.unready is None
        photo = encode(noise(64, 64))
        result = await analyzer.analyze(photo, Options(detect=False))
        assert set(result.models.values()) == {"bravo@1.0.0"}
        assert set(result.faces[0].predictions) == set(HEADS)
        named = await analyzer.analyze(photo, Options(detect=False, models=("alpha",)))
        assert named.models["emotion"] == "alpha@1.0.0"
        flat = await analyzer.analyze(encode(noise(64, 64) // 255), Options())
        assert flat.faces == ()
        assert flat.models["detector"] == analyzer.detector.id
    finally:
        await analyzer.close(drain_s=1)


def test_what_is_served_is_shown(folder: Path) -> None:
    metrics = Metrics(CollectorRegistry())
    analyzer = opened(folder, metrics)
    for name, model in analyzer.models.items():
        labels = {
            "name": name,
            "version": "1.0.0",
            "sha256": model.card.sha256,
            "provider": model.provider,
        }
        assert metrics.registry.get_sample_value("mien_model_info", labels) == 1
    assert list(analyzer.models) == ["alpha", "bravo"]


def test_only_the_named_models_are_served(folder: Path) -> None:
    assert list(opened(folder, models=("bravo",)).models) == ["bravo"]
    with pytest.raises(ModelError, match="no model 'charlie'"):
        opened(folder, models=("charlie",))


def make_variant(parent: Path, base: str) -> Path:
    fields = {"variant_of": base, "variant_of_sha256": load_card(parent / base).sha256}
    return make_model_folder(parent, f"{base}_int8", **fields)


def test_a_default_gives_way_to_its_variant_unless_asked_for(tmp_path: Path) -> None:
    ours = Settings().default_models[0]
    make_model_folder(tmp_path, ours)
    make_variant(tmp_path, ours)
    assert opened(tmp_path).default_heads["emotion"].name == f"{ours}_int8"
    assert opened(tmp_path, default_models=(ours,)).default_heads["emotion"].name == ours
    assert opened(tmp_path, models=(ours,)).default_heads["emotion"].name == ours


def test_a_variant_of_what_is_not_beside_it_stops_the_start(tmp_path: Path) -> None:
    make_model_folder(tmp_path, "tiny")
    make_variant(tmp_path, "tiny")
    assert list(opened(tmp_path, models=("tiny_int8",)).models) == ["tiny_int8"]
    shutil.rmtree(tmp_path / "tiny")
    variant = r"model 'tiny_int8' is a variant of 'tiny'"
    with pytest.raises(ModelError, match=f"{variant} and needs it beside it: .* no readable card"):
        opened(tmp_path)
    make_model_folder(tmp_path, "tiny", seed=1)  # exported anew
    with pytest.raises(ModelError, match=rf"{variant}, but of another .*`.* quantize tiny`"):
        opened(tmp_path)


def test_defaults_that_are_not_there_matter_only_when_asked_for(folder: Path) -> None:
    heads = opened(folder).default_heads
    assert {head: card.name for head, card in heads.items()} == {
        "emotion": "alpha",
        "gender": "bravo",
        "age": "bravo",
    }
    with pytest.raises(ModelError, match="default model 'charlie' is not served"):
        opened(folder, default_models=("bravo", "charlie"))
    with pytest.raises(ModelError, match="default model 'alpha' is not served"):
        opened(folder, models=("bravo",), default_models=("alpha",))


def test_a_damaged_model_stops_the_start(tmp_path: Path) -> None:
    (make_model_folder(tmp_path) / "model.onnx").write_bytes(b"other")
    with pytest.raises(HashMismatch):
        opened(tmp_path)


@pytest.mark.parametrize(
    "options", [{"provider": "cuda"}, {"require_provider": "cuda"}, {"provider": "auto"}]
)
async def test_a_provider_that_is_asked_for_and_missing_is_not_ready(
    folder: Path, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    analyzer = opened(folder, **options)
    await analyzer.start()
    try:
        if options == {"provider": "auto"}:
            assert analyzer.unready is None
            return
        reason = "model alpha runs on cpu, cuda was asked for"
        assert str(analyzer.unready).startswith(reason)
        with pytest.raises(NotReady, match=reason):
            await analyzer.analyze(encode(noise(64, 64)), Options())
    finally:
        await analyzer.close(drain_s=0)


@pytest.mark.parametrize(("slots", "expected"), [(0, 5), (3, 3)])
def test_slots_are_one_a_core_unless_said(
    folder: Path, slots: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "available_cores", lambda: 5)
    analyzer = opened(folder, slots=slots)
    assert [batcher._count for batcher in analyzer._batchers()] == [expected] * 5
    assert cv2.getNumThreads() == 1


def test_explanations_are_admitted_by_what_they_cost(folder: Path) -> None:
    crop = np.zeros((16, 16, 1), np.uint8)
    item = ExplainItem(crop, "emotion", 0, "occlusion", None)
    model = opened(folder).models["alpha"]
    assert model.explain._cost is not None
    assert model.explain._cost(item) == 50
    assert model.batcher._cost is None


def test_limits_reach_the_batchers(folder: Path) -> None:
    analyzer = opened(
        folder,
        max_batch_size=7,
        max_pending_images=21,
        max_pending_faces=111,
        max_explain_batch_size=5,
        max_pending_explanations=222,
    )
    limits = [(each._max_batch_size, each._max_pending) for each in analyzer._batchers()]
    assert limits == [(1, 21), (7, 111), (7, 111), (5, 222), (5, 222)]


def test_settings_become_options_and_limits() -> None:
    settings = Settings(max_faces=3, min_face_px=44, detection_threshold=0.5, max_bytes=1)
    settings = settings.model_copy(update={"max_pixels": 2, "max_side": 3})
    assert default_options(settings) == Options(
        max_faces=3, min_face_px=44, detection_threshold=0.5
    )
    assert explain_defaults(settings).max_faces == 3
    assert explain_defaults(Settings(max_faces=30)).max_faces == 10
    limits = image_limits(settings)
    assert (limits.max_bytes, limits.max_pixels, limits.max_side) == (1, 2, 3)


def test_yunet_is_opened_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class OpenedYunet(FakeDetector):
        provider = "cpu"

        def __init__(self, path: Path, **options: Any) -> None:
            super().__init__()
            asked.append((path, options.get("max_side")))

    monkeypatch.setattr(build, "YunetDetector", OpenedYunet)
    opened(folder, detector="yunet", yunet_path=Path("y.onnx"), detector_max_side=320)
    opened(folder, detector="yunet", yunet_path=Path("y.onnx"))
    assert asked == [(Path("y.onnx"), 320), (Path("y.onnx"), None)]


@pytest.mark.asyncio
async def test_a_detector_on_the_wrong_provider_is_a_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnCuda(FakeDetector):
        provider = "cuda"

        def __init__(self, path: Path, **options: Any) -> None:
            super().__init__()

    monkeypatch.setattr(build, "YunetDetector", OnCuda)
    analyzer = opened(folder, detector="yunet", yunet_path=Path("y.onnx"), require_provider="cpu")
    assert "the detector runs on cuda" in str(analyzer.unready)


def test_our_detector_is_opened_by_its_folder(folder: Path, tmp_path: Path) -> None:
    ours = stub_detector(tmp_path)
    metrics = Metrics(CollectorRegistry())
    analyzer = opened(
        folder,
        metrics,
        detector="mien",
        detector_dir=ours,
        detector_max_side=320,
        detector_tiles=2,
    )
    card = load_detector_card(ours)
    assert (analyzer.detector.id, analyzer.detector.card) == ("detector@1.0.0", card)
    labels = {"name": "detector", "version": "1.0.0", "sha256": card.sha256, "provider": "cpu"}
    assert metrics.registry.get_sample_value("mien_model_info", labels) == 1
    (ours / "model.onnx").write_bytes(b"other")
    with pytest.raises(HashMismatch, match="detector"):
        opened(folder, detector="mien", detector_dir=ours)


def test_a_detector_among_the_models_is_none_of_them(tmp_path: Path) -> None:
    make_model_folder(tmp_path, "alpha")
    stub_detector(tmp_path)
    assert list(opened(tmp_path).models) == ["alpha"]
    with pytest.raises(ModelError, match="no model 'detector'"):
        opened(tmp_path, models=("detector",))
