from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InferenceError, InvalidItem, ModelError
from service.runtime.session import OrtSession, SessionOptions, buckets, pad_to_bucket
from tests.fakes import make_model_folder

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_model_folder(tmp_path_factory.mktemp("models"), heads=("emotion", "gender"))
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def session(path: Path) -> OrtSession:
    return OrtSession(path, SessionOptions(provider="cpu"))


def crops(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 1), np.uint8)


def test_tells_what_the_graph_takes_and_gives(session: OrtSession) -> None:
    assert session.inputs == {"image": ("N", 16, 16, 1)}
    assert session.input_types == {"image": "tensor(uint8)"}
    assert session.outputs == {"emotion": ("N", 7), "gender": ("N", 2)}


def test_gives_the_outputs_that_were_asked_for_in_that_order(session: OrtSession) -> None:
    gender, emotion = session.run("image", crops(3), ["gender", "emotion"])
    assert (gender.shape, emotion.shape) == ((3, 2), (3, 7))
    assert gender.dtype == np.float32
    np.testing.assert_allclose(emotion.sum(axis=1), 1, atol=1e-5)
    (alone,) = session.run("image", crops(3), ["emotion"])
    np.testing.assert_array_equal(alone, emotion)


@pytest.mark.parametrize("count", [1, 2, 5, 32])
def test_an_item_gets_the_same_whatever_is_beside_it(session: OrtSession, count: int) -> None:
    (together,) = session.run("image", crops(count), ["emotion"])
    for row, crop in enumerate(crops(count)):
        (alone,) = session.run("image", crop[np.newaxis], ["emotion"])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_many_threads_may_run_it_at_once(session: OrtSession) -> None:
    def run(seed: int) -> Any:
        return session.run("image", crops(4, seed=seed), ["emotion"])[0]

    expected = [run(seed) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(run, range(20)), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", np.zeros((1, 16, 16, 3), np.uint8)),
        ("image", np.zeros((16, 16, 1), np.uint8)),
        ("image", np.zeros((1, 16, 16, 1), np.float32)),
        ("picture", np.zeros((1, 16, 16, 1), np.uint8)),
    ],
)
def test_a_wrong_input_is_the_items_fault(session: OrtSession, name: str, value: Any) -> None:
    with pytest.raises(InvalidItem, match="refused its input"):
        session.run(name, value, ["emotion"])


def test_a_failing_graph_is_the_runs_fault(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path, heads=("emotion", "gender"), broken_head="gender")
    session = OrtSession(folder / "model.onnx", SessionOptions(provider="cpu"))
    with pytest.raises(InferenceError, match="run failed") as caught:
        session.run("image", crops(1), ["gender"])
    assert not isinstance(caught.value, InvalidItem)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_what_cannot_be_loaded_is_a_model_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        OrtSession(path, SessionOptions())


def test_threads_are_bounded_and_do_not_spin(path: Path) -> None:
    session = OrtSession(path, SessionOptions(provider="cpu", threads=2))
    options = session._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"


def test_telemetry_is_off() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize("provider", ["auto", "cpu", "cuda"])
def test_tells_the_provider_in_use_not_the_one_asked_for(path: Path, provider: Any) -> None:
    assert OrtSession(path, SessionOptions(provider=provider)).provider == "cpu"


@pytest.mark.parametrize(
    ("provider", "expected"),
    [("cpu", ["cpu"]), ("auto", ["cuda", "cpu"]), ("cuda", ["cuda", "cpu"])],
)
def test_cuda_is_asked_for_first_where_it_is_built_in(
    path: Path, monkeypatch: pytest.MonkeyPatch, provider: Any, expected: list[str]
) -> None:
    asked: list[Any] = []
    real = ort.InferenceSession

    def open_session(path: str, options: Any, providers: list[Any]) -> Any:
        asked.extend(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", open_session)
    session = OrtSession(path, SessionOptions(provider=provider))
    found = [entry if isinstance(entry, str) else entry[0] for entry in asked]
    assert found == [f"{name.upper()}ExecutionProvider" for name in expected]
    if "cuda" in expected:
        assert asked[0][1]["cudnn_conv_algo_search"] == "HEURISTIC"
    assert session.provider == "cpu", "it did not come about, so it is not reported"


def test_on_cuda_input_and_outputs_are_bound_to_the_device(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Binding:
        def __init__(self) -> None:
            self.bound: list[Any] = []

        def bind_ortvalue_input(self, name: str, value: Any) -> None:
            self.bound.append((name, value))

        def bind_output(self, name: str, device: str, index: int) -> None:
            self.bound.append((name, device, index))

        def copy_outputs_to_cpu(self) -> list[str]:
            return ["outputs"]

    class Session:
        def __init__(self) -> None:
            self.binding = Binding()
            self.ran = 0

        def io_binding(self) -> Binding:
            return self.binding

        def run_with_iobinding(self, binding: Binding) -> None:
            assert binding is self.binding
            self.ran += 1

    session = OrtSession(path, SessionOptions(provider="cpu"))
    stub = Session()
    monkeypatch.setattr(session, "provider", "cuda")
    monkeypatch.setattr(session, "_session", stub)
    place = staticmethod(lambda value, device, index: (len(value), device, index))
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", place)
    assert session.run("image", crops(2), ["age", "gender"]) == ["outputs"]
    assert stub.binding.bound == [
        ("image", (2, "cuda", 0)),
        ("age", "cuda", 0),
        ("gender", "cuda", 0),
    ]
    assert stub.ran == 1


@pytest.mark.skipif(not HAS_CUDA, reason="this ONNX Runtime has no CUDA")
def test_cuda_gives_what_the_cpu_gives(path: Path, session: OrtSession) -> None:
    cuda = OrtSession(path, SessionOptions(provider="cuda"))
    if cuda.provider != "cuda":
        pytest.skip("there is no CUDA device")
    for count in (1, 4, 32):
        for found, wanted in zip(
            cuda.run("image", crops(count), ["gender", "emotion"]),
            session.run("image", crops(count), ["gender", "emotion"]),
            strict=True,
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (33, [1, 2, 4, 8, 16, 32, 33])],
)
def test_buckets_are_powers_of_two_and_the_largest(largest: int, expected: list[int]) -> None:
    assert buckets(largest) == expected


@given(st.integers(1, 1024).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_every_batch_fits_a_bucket_and_keeps_its_rows(sizes: tuple[int, int]) -> None:
    largest, count = sizes
    batch = np.full((count, 1, 1, 1), 9, np.uint8)
    padded = pad_to_bucket(batch, buckets(largest))
    assert len(padded) in buckets(largest)
    assert count <= len(padded) < 2 * count or len(padded) == 1
    assert (padded[:count] == 9).all()
    assert not padded[count:].any()
    assert padded.dtype == np.uint8
