"""Stand-ins for what the service is built from, and tiny real models.

- `GatedRunner` runs when the test says so; `SteppedLoop` makes time and threads go by hand. With
  them no test of the batcher sleeps.
- `make_model_folder` writes a small, true ONNX model with a valid card; TensorFlow is not needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.card import ModelCard
from service.core.batcher import Batcher
from service.core.slot import SlotThread
from service.errors import InvalidItem
from service.types import AGE_BANDS, EMOTIONS, GENDERS, Box, CropItem, Face, Head, Pixels

LABELS: dict[Head, tuple[str, ...]] = {"emotion": EMOTIONS, "gender": GENDERS, "age": AGE_BANDS}
_PATIENCE_S = 10.0


# Runners -------------------------------------------------------------------------------------


@dataclass
class Run:
    """A run that has begun on a worker thread and waits for its outcome."""

    items: tuple[Any, ...]
    outcome: Future[Sequence[Any]] = field(default_factory=Future)

    def give(self, outputs: Sequence[Any] | None = None) -> None:
        """Let it succeed; without `outputs` it gives its items back."""
        self.outcome.set_result(list(self.items) if outputs is None else outputs)

    def fail(self, error: BaseException) -> None:
        self.outcome.set_exception(error)


class GatedRunner:
    """Every run waits until the test gives its outcome; make it on the event loop."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Queue[Run] = asyncio.Queue()

    def run(self, items: Sequence[Any]) -> Sequence[Any]:
        run = Run(tuple(items))
        self.runs.append(run)
        self._loop.call_soon_threadsafe(self._begun.put_nowait, run)
        return run.outcome.result(timeout=_PATIENCE_S)

    async def begun(self) -> Run:
        """The next run that has begun."""
        return await asyncio.wait_for(self._begun.get(), _PATIENCE_S)

    def release(self) -> None:
        """Let every run end, so that no thread outlives the test."""
        for run in self.runs:
            if not run.outcome.done():
                run.fail(RuntimeError("released"))


class ScriptedRunner:
    """Answers at once with `answer(item)` each; raises what `answer` raises."""

    def __init__(self, answer: Callable[[Any], Any] = lambda item: item) -> None:
        self.runs: list[tuple[Any, ...]] = []
        self._answer = answer

    def run(self, items: Sequence[Any]) -> list[Any]:
        self.runs.append(tuple(items))
        return [self._answer(item) for item in items]


def refuse(*poison: Any) -> Callable[[Any], Any]:
    """An answer for `ScriptedRunner` that finds fault with these items."""

    def answer(item: Any) -> Any:
        if item in poison:
            raise InvalidItem(f"{item} is at fault")
        return item

    return answer


class FakeModel:
    """A model that needs no file: the first label gets `top`, the others share the rest."""

    def __init__(self, card: ModelCard, *, top: float = 0.75) -> None:
        self.card = card
        self.runs: list[tuple[CropItem, ...]] = []
        self.warmed = 0
        self._top = top

    def run(self, items: Sequence[CropItem]) -> list[dict[Head, NDArray[np.float32]]]:
        self.runs.append(tuple(items))
        return [{head: self._probabilities(head) for head in item.heads} for item in items]

    def warm_up(self) -> None:
        self.warmed += 1

    def _probabilities(self, head: Head) -> NDArray[np.float32]:
        count = len(self.card.heads[head].labels)
        rest = (1 - self._top) / (count - 1)
        return np.array([self._top] + [rest] * (count - 1), np.float32)


class FakeGradients:
    """Gradients that need no file: every map has the class's place among its labels all over."""

    def __init__(self) -> None:
        self.runs: list[tuple[tuple[tuple[Head, int], ...], bool]] = []

    def maps(
        self,
        crops: Sequence[NDArray[np.uint8]],
        classes: Sequence[tuple[Head, int]],
        *,
        guided: bool,
    ) -> NDArray[np.float32]:
        self.runs.append((tuple(classes), guided))
        maps = np.zeros((len(crops), *crops[0].shape[:2]), np.float32)
        for values, (_, place) in zip(maps, classes, strict=True):
            values[:] = place
        return maps


# Observers and detectors -----------------------------------------------------------------------


@dataclass
class RecordingObserver:
    """Keeps what a batcher told it."""

    depths: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def queued(self, name: str, depth: int) -> None:
        self.depths.append(depth)

    def ran(self, name: str, size: int, seconds: float) -> None:
        self.sizes.append(size)
        self.seconds.append(seconds)


class FakeDetector:
    """Finds the same faces in every picture: boxes as fractions of its width and height."""

    id = "fake@1.0.0"
    provider = "cpu"

    def __init__(
        self,
        *boxes: tuple[float, float, float, float],
        max_side: int = 640,
        scores: Sequence[float] | None = None,
        landmarks: bool = False,
    ) -> None:
        self.max_side = max_side
        self.shapes: list[tuple[int, ...]] = []
        self._boxes = boxes
        self._scores = [0.9] * len(boxes) if scores is None else scores
        self._landmarks = landmarks

    def detect(self, pixels: Pixels, *, threshold: float | None, min_face_px: float) -> list[Face]:
        self.shapes.append(pixels.shape)
        faces = [
            self._face(box, score, pixels)
            for box, score in zip(self._boxes, self._scores, strict=True)
            if score >= (threshold or 0.0)
        ]
        return [face for face in faces if face.box.side >= min_face_px]

    def _face(self, box: tuple[float, float, float, float], score: float, pixels: Pixels) -> Face:
        height, width = pixels.shape[:2]
        x, y, w, h = box
        place = Box(x * width, y * height, w * width, h * height)
        points = np.full((5, 2), place.center, np.float32) if self._landmarks else None
        return Face(place, score, points)


# Time and threads by hand ------------------------------------------------------------------------


@dataclass
class HeldCall:
    """One call that a batcher handed to a thread."""

    items: tuple[Any, ...]
    step: Callable[[], None]
    """Does the work now, on this thread."""


class SteppedThreads:
    """Stand in for the threads of slots: a call is made when the test steps it."""

    def __init__(self) -> None:
        self.calls: deque[HeldCall] = deque()
        self.on_call: Callable[[HeldCall], None] = lambda call: None

    def make(self, function: Callable[[Any], Any], *, name: str) -> SlotThread[Any, Any]:
        return _SteppedThread(function, self)


class _SteppedThread(SlotThread[Any, Any]):
    def __init__(self, function: Callable[[Any], Any], threads: SteppedThreads) -> None:
        self._function = function
        self._threads = threads

    def call(self, argument: Any, take: Callable[[Callable[[], Any]], None]) -> None:
        loop = asyncio.get_running_loop()
        held = HeldCall(tuple(argument), partial(self._run, argument, take, loop))
        self._threads.on_call(held)
        self._threads.calls.append(held)

    def end(self) -> None:
        pass


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock and threads go only when the test moves them."""

    now = 1000.0

    def __init__(self) -> None:
        super().__init__()
        self.threads = SteppedThreads()

    def time(self) -> float:
        return self.now


def is_idle(batcher: Batcher[Any, Any]) -> bool:
    """Whether none of its slots runs anything."""
    return not any(slot.batch for slot in batcher._slots)


async def settle() -> None:
    """Give every task that can go on the turns that it needs."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until a worker thread has brought `condition` about."""
    async with asyncio.timeout(_PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nothing signals it, and it is near
            await asyncio.sleep(0)


# Images ------------------------------------------------------------------------------------------


def noise(height: int, width: int, *, seed: int = 0, channels: int = 3) -> Pixels:
    """An image with detail everywhere that survives a JPEG: coarse noise, enlarged."""
    small = np.random.default_rng(seed).integers(
        0, 256, (max(height // 8, 1), max(width // 8, 1), channels), np.uint8
    )
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def encode(pixels: Pixels, suffix: Literal[".png", ".jpg"] = ".png") -> bytes:
    """An image file with these pixels."""
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


# Cards and models --------------------------------------------------------------------------------


def card_fields(
    name: str,
    *,
    heads: Sequence[Head] = ("emotion",),
    size: int = 16,
    color: Literal["gray", "rgb"] = "gray",
    sha256: str = "0" * 64,
    **changes: Any,
) -> dict[str, Any]:
    """The JSON of a valid card, with `changes` to its top fields."""
    return {
        "name": name,
        "version": "1.0.0",
        "summary": "A model for tests.",
        "source": "tests/fakes.py",
        "parameters": 1,
        "input": {"size": size, "color": color, "framing": {"scale": 1.0, "shift_y": 0.0}},
        "heads": {head: {"labels": list(LABELS[head])} for head in heads},
        "sha256": sha256,
        "licence": "Apache-2.0",
        "data": [],
        "metrics": [],
        "parity": {"max_abs_error": 0.0, "samples": 1},
        "limits": ["for tests only"],
    } | changes


def make_card(name: str, **options: Any) -> ModelCard:
    """A valid card; see `card_fields`."""
    return ModelCard.model_validate_json(json.dumps(card_fields(name, **options)))


def make_model_folder(
    parent: Path,
    name: str = "tiny",
    *,
    heads: Sequence[Head] = ("emotion",),
    size: int = 16,
    color: Literal["gray", "rgb"] = "gray",
    seed: int = 0,
    broken_head: Head | None = None,
    batch: int | str = "N",
    input_type: int | None = None,
    graph_labels: Mapping[Head, int] | None = None,
    **changes: Any,
) -> Path:
    """Write `parent/name` with `card.json` and a `model.onnx` that fits it.

    Args:
        parent: the models folder.
        name: of the model and its folder.
        heads: outputs of the graph and the card.
        size: side of the crop.
        color: of the crop.
        seed: of the weights.
        broken_head: a head that fails whenever it is executed.
        batch: first dimension of the graph's input.
        input_type: ONNX element type of the input; None for uint8.
        graph_labels: classes of a head in the graph, where they should differ from the card's.
        changes: to the top fields of the card.
    """
    import onnx

    folder = parent / name
    folder.mkdir(parents=True)
    channels = 1 if color == "gray" else 3
    counts = {head: len(LABELS[head]) for head in heads} | dict(graph_labels or {})
    model = _graph(counts, size, channels, seed, broken_head, batch, input_type)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    fields = card_fields(
        name,
        heads=heads,
        size=size,
        color=color,
        sha256=hashlib.sha256(data).hexdigest(),
        **changes,
    )
    (folder / "card.json").write_text(json.dumps(fields))
    return folder


def _graph(
    counts: Mapping[Head, int],
    size: int,
    channels: int,
    seed: int,
    broken_head: Head | None,
    batch: int | str,
    input_type: int | None,
) -> Any:
    """uint8 (N, S, S, C) -> a convolution, its mean, and a dense softmax layer for each head."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    node = helper.make_node
    weights = {
        "scale": np.array(1 / 255, np.float32),
        "kernel": rng.normal(0, 1, (8, channels, 3, 3)).astype(np.float32),
        "beyond": np.array([99], np.int64),
    }
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["float", "scale"], ["scaled"]),
        node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "kernel"], ["maps"]),
        node("Relu", ["maps"], ["positive"]),
        node("GlobalAveragePool", ["positive"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"]),
    ]
    for head, count in counts.items():
        weights[f"{head}_w"] = rng.normal(0, 4, (8, count)).astype(np.float32)
        nodes.append(node("MatMul", ["features", f"{head}_w"], [f"{head}_logits"]))
        logits = f"{head}_logits"
        if head == broken_head:
            # A shape that does not fit, which only shows when the node is executed.
            nodes.append(node("Shape", [logits], [f"{head}_rows"], start=0, end=1))
            nodes.append(node("Add", [f"{head}_rows", "beyond"], [f"{head}_far"]))
            nodes.append(node("Reshape", [logits, f"{head}_far"], [f"{head}_gone"]))
            nodes.append(node("Add", [logits, f"{head}_gone"], [f"{head}_sum"]))
            logits = f"{head}_sum"
        nodes.append(node("Softmax", [logits], [head], axis=-1))
    kind = TensorProto.UINT8 if input_type is None else input_type
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", kind, [batch, size, size, channels])],
        [
            helper.make_tensor_value_info(head, TensorProto.FLOAT, [batch, count])
            for head, count in counts.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
