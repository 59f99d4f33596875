"""`explain.onnx` beside a model: verified at start, loaded on demand, true to its classes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from export.explain import write_explanation
from service.errors import HashMismatch, InvalidItem, ModelError
from service.runtime import explain
from service.runtime.registry import Model
from service.runtime.session import OrtSession, SessionOptions
from service.types import EMOTIONS, HEADS, Head
from tests.fakes import make_model_folder

OPTIONS = SessionOptions(provider="cpu", max_batch_size=8)


def crops(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 16, 16, 1), np.uint8))


def explained(parent: Path, **options: Any) -> Path:
    folder = make_model_folder(parent, **options)
    digest = write_explanation(folder)
    fields = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(fields | {"explain_sha256": digest}))
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which explain graphs were loaded."""
    paths: list[Path] = []

    class Counted(OrtSession):
        def __init__(self, path: Path, *args: Any, **more: Any) -> None:
            paths.append(path)
            super().__init__(path, *args, **more)

    monkeypatch.setattr(explain, "OrtSession", Counted)
    return paths


def test_a_model_without_the_entry_has_no_gradients(tmp_path: Path) -> None:
    assert Model(make_model_folder(tmp_path), OPTIONS).gradients is None


def test_a_map_that_is_no_numbers_is_the_items_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = Model(explained(tmp_path), OPTIONS).gradients
    assert gradients is not None
    maps = np.zeros((2, 16, 16), np.float32)
    maps[1, 3, 3] = np.nan
    monkeypatch.setattr(OrtSession, "run", lambda *_, **__: [maps])
    classes: list[tuple[Head, int]] = [("emotion", 0)] * 2
    with pytest.raises(InvalidItem, match="the gradient of tiny has no bounds"):
        gradients.maps(crops(2), classes, guided=True)
    assert gradients.maps(crops(1), classes[:1], guided=True).shape == (1, 16, 16)


def test_the_graph_is_loaded_when_it_is_first_asked_for(tmp_path: Path, opened: Any) -> None:
    model = Model(explained(tmp_path), OPTIONS)
    model.warm_up()
    assert opened == []
    assert model.gradients is not None
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(model.gradients.maps, crops(2), [("emotion", 0)] * 2, guided=True)
            for _ in range(8)
        ]
    assert len({job.result().tobytes() for job in jobs}) == 1
    assert [path.name for path in opened] == ["explain.onnx"]


def test_another_file_than_the_cards_is_refused_at_start(tmp_path: Path) -> None:
    folder = explained(tmp_path)
    data = bytearray((folder / "explain.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "explain.onnx").write_bytes(data)
    with pytest.raises(HashMismatch, match=r"explain\.onnx has sha256"):
        Model(folder, OPTIONS)


def test_a_missing_file_is_refused_at_start(tmp_path: Path) -> None:
    folder = explained(tmp_path)
    (folder / "explain.onnx").unlink()
    with pytest.raises(ModelError, match=r"no readable explain\.onnx"):
        Model(folder, OPTIONS)


@pytest.mark.parametrize("file", ["explain.onnx", "model.onnx"])
def test_a_file_that_was_replaced_since_the_start_is_not_loaded(tmp_path: Path, file: str) -> None:
    folder = explained(tmp_path)
    model = Model(folder, OPTIONS)
    assert model.gradients is not None
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[:-1])
    with pytest.raises(HashMismatch, match=file):
        model.gradients.maps(crops(1), [("emotion", 0)], guided=True)
    (folder / file).write_bytes(whole)
    assert model.gradients.maps(crops(1), [("emotion", 0)], guided=True).shape == (1, 16, 16)


def test_classes_are_counted_through_the_heads(tmp_path: Path) -> None:
    folder = explained(tmp_path, heads=HEADS)
    model = Model(folder, OPTIONS)
    assert model.gradients is not None
    classes: list[Any] = [("emotion", 6), ("gender", 0), ("gender", 1), ("age", 3)]
    same = crops(1) * 4
    maps = model.gradients.maps(same, classes, guided=False)
    graph = ort.InferenceSession(folder / "explain.onnx")
    for values, place in zip(maps, [6, 7, 8, 12], strict=True):
        feeds = {"image": same[0][None], "class": [place], "guided": np.array(False)}
        np.testing.assert_allclose(values, graph.run(["map"], feeds)[0][0], rtol=1e-4, atol=1e-9)
    assert maps.max() > 0
    assert not np.array_equal(maps[1], maps[3])


def test_a_plain_gradient_is_another_map(tmp_path: Path) -> None:
    model = Model(explained(tmp_path), OPTIONS)
    assert model.gradients is not None
    classes: list[Any] = [("emotion", place) for place in range(len(EMOTIONS))]
    guided, plain = (
        model.gradients.maps(crops(1) * 7, classes, guided=guided) for guided in (True, False)
    )
    assert not np.allclose(guided, plain)


def test_on_cuda_batches_are_padded_to_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(explained(tmp_path), OPTIONS)
    assert model.gradients is not None
    expected = model.gradients.maps(crops(3), [("emotion", 1)] * 3, guided=True)
    session: Any = model.gradients._session
    shapes = []
    monkeypatch.setattr(session, "provider", "cuda")

    def run(name: str, batch: Any, fetches: Any, **others: Any) -> Any:
        shapes.append((len(batch), len(others["class"])))
        return session._session.run(list(fetches), {name: batch, **others})

    monkeypatch.setattr(session, "run", run)
    found = model.gradients.maps(crops(3), [("emotion", 1)] * 3, guided=True)
    assert shapes == [(4, 4)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)
