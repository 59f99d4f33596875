"""Faces by any ONNX file of YuNet's format, with five landmarks.

Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector (2023), as OpenCV Zoo exports it: BGR
0..255 in, and for each of the strides 8, 16, 32 a grid of cells with `cls` and `obj` scores, a box
and five points, both relative to the cell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError, ModelError
from service.runtime.session import OrtSession, SessionOptions
from service.types import Face, Pixels
from service.vision.candidates import Candidates, joined
from service.vision.geometry import filled_up, letterbox

DEFAULT_THRESHOLD = 0.7
_MAX_IOU = 0.3
_STRIDES = (8, 16, 32)
_WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
_OUTPUTS = tuple(f"{kind}_{stride}" for kind in _WIDTHS for stride in _STRIDES)
_PROBE = (64, 96)

_Edits: TypeAlias = Mapping[int, "_Edits | None"]
"""Field numbers of a protobuf message -> edits inside of it, or None to leave the field out."""
_FREE_SHAPE: _Edits = {2: {1: {2: {1: {1: None, 2: None}}}}}
"""ValueInfoProto . type . tensor_type . shape . dim . dim_value and dim_param, in onnx.proto."""
# ModelProto.graph . input, output, and value_info, which repeats shapes that no longer hold.
_FREE_SHAPES: _Edits = {7: {11: _FREE_SHAPE, 12: _FREE_SHAPE, 13: None}}

Floats = NDArray[np.float32]


class YunetDetector:
    """YuNet in ONNX Runtime; the score is sqrt(cls * obj), as in OpenCV's FaceDetectorYN."""

    def __init__(self, path: Path, *, max_side: int = 640, options: SessionOptions) -> None:
        """Load and try out `path`.

        Args:
            path: the ONNX file.
            max_side: longer side of the picture that is searched, in pixels; rounded down to a
                multiple of 32. A file whose input is of one size is freed of it where its graph
                allows (2.3 ms in place of 9.7 ms on scenes of 450 px), else images are put into
                that size.
            options: how it is run.

        Raises:
            ModelError: the file cannot be read or loaded, or is not of YuNet's format.
        """
        self.id = f"yunet@{_sha256(path)[:8]}"
        self._session, self._fixed = _open(path, options)
        side = max(max_side // 32, 1) * 32
        self._bounds = self._fixed or (side, side)

    @property
    def provider(self) -> str:
        """The execution provider in use: `cpu` or `cuda`."""
        return self._session.provider

    @property
    def max_side(self) -> int:
        """Longer side of the picture that is searched, in pixels."""
        return max(self._bounds)

    def detect(self, pixels: Pixels, *, threshold: float | None, min_face_px: float) -> list[Face]:
        """Find faces; see `service.core.ports.Detector`."""
        threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        boxed = letterbox(pixels, self._bounds, self._fixed)
        if self._fixed is None:
            boxed = filled_up(boxed, _STRIDES[-1])
        outputs = _run(self._session, boxed.pixels)
        width = boxed.pixels.shape[1]
        found = joined([_decode(outputs, stride, width, threshold) for stride in _STRIDES])
        faces = found.restored(boxed).faces(_MAX_IOU)
        return [face for face in faces if face.box.side >= min_face_px]


def _decode(
    outputs: dict[str, Floats], stride: int, frame_width: int, threshold: float
) -> Candidates:
    """The cells of a stride at or above the threshold, in pixels of the frame."""
    cls, obj, bbox, kps = (outputs[f"{kind}_{stride}"][0] for kind in _WIDTHS)  # (cells, width)
    scores = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
    (cells,) = np.nonzero(scores >= threshold)
    rows, columns = np.divmod(cells, frame_width // stride)
    corner = np.stack((columns, rows), axis=1).astype(np.float32)  # (N, 2) in cells
    size = np.exp(bbox[cells, 2:]) * stride
    center = (corner + bbox[cells, :2]) * stride
    boxes = np.hstack((center - size / 2, size))
    points = (corner[:, np.newaxis] + kps[cells].reshape(-1, 5, 2)) * stride
    return Candidates(boxes, points, scores[cells])


def _run(session: OrtSession, pixels: Pixels) -> dict[str, Floats]:
    batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis], np.float32)  # (1, 3, H, W)
    (name,) = session.inputs
    return dict(zip(_OUTPUTS, session.run(name, batch, _OUTPUTS), strict=True))


def _open(path: Path, options: SessionOptions) -> tuple[OrtSession, tuple[int, int] | None]:
    """A session that has been tried out, and the one width and height that it takes, if one."""
    session = OrtSession(path, options)
    _check_signature(path, session)
    ((*_, height, width),) = session.inputs.values()
    if not (isinstance(height, int) and isinstance(width, int)):
        _try_out(path, session, _PROBE)
        return session, None
    freed = _open_freed(path, options)
    if freed is not None:
        return freed, None
    _try_out(path, session, (height, width))
    return session, (width, height)


def _open_freed(path: Path, options: SessionOptions) -> OrtSession | None:
    """The file without its declared sizes, where its graph works at others.

    ONNX Runtime refuses an input of another size than declared (its overrides are for free
    dimensions), and the `onnx` package is no dependency at run time.
    """
    try:
        session = OrtSession(path, options, _edit(path.read_bytes(), _FREE_SHAPES))
        _try_out(path, session, _PROBE)
    except ModelError:
        return None
    return session


def _edit(message: bytes, edits: _Edits) -> bytes:
    """Edit fields on the wire (https://protobuf.dev/programming-guides/encoding/)."""
    out = bytearray()
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, start)
        number, wire_type = key >> 3, key & 7
        if wire_type in (0, 2):
            value, body = _varint(message, position)
        else:
            value, body = {1: 8, 5: 4}[wire_type], position
        position = body if wire_type == 0 else body + value
        if number not in edits:
            out += message[start:position]
        elif (inside := edits[number]) is not None:
            content = _edit(message[body:position], inside)
            out += _to_varint(key) + _to_varint(len(content)) + content
    return bytes(out)


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A base-128 number and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _check_signature(path: Path, session: OrtSession) -> None:
    missing = [name for name in _OUTPUTS if name not in session.outputs]
    if missing:
        raise ModelError(f"{path} is not of YuNet's format: it has no output {missing[0]!r}")
    shapes, types = list(session.inputs.values()), list(session.input_types.values())
    if len(shapes) != 1 or len(shapes[0]) != 4 or types != ["tensor(float)"]:
        raise ModelError(f"{path} is not of YuNet's format: it must take one float32 (1, 3, H, W)")


def _try_out(path: Path, session: OrtSession, size: tuple[int, int]) -> None:
    height, width = size
    try:
        outputs = _run(session, np.zeros((height, width, 3), np.uint8))
    except InferenceError as error:
        raise ModelError(f"{path} is not of YuNet's format: {error}") from error
    for name, output in outputs.items():
        kind, stride = name.split("_")
        cells = (height // int(stride)) * (width // int(stride))
        if output.shape != (1, cells, _WIDTHS[kind]):
            raise ModelError(
                f"{path} is not of YuNet's format: {name} is {output.shape} "
                f"for an image of {width} x {height}"
            )


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise ModelError(f"the detector file {path} cannot be read: {error}") from error
