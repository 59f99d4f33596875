"""One analysed picture as it is written: a JSON object, or a row for each face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.api.messages import on_tracks
from service.api.schemas import encode, to_json
from service.card import HeadSpec
from service.types import AnalyzedFace, Head, Prediction, Result

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A result, and what it is the result of."""

    source: str
    result: Result
    frame: int | None = None
    """Of a video."""
    time_s: float | None = None
    tracks: tuple[int, ...] | None = None
    """Of each face."""

    @property
    def title(self) -> str:
        """What it is called."""
        return self.source if self.frame is None else f"{self.source}#{self.frame}"

    def tracked(self, tracked: Sequence[tuple[int, AnalyzedFace]]) -> Record:
        """With the faces that a tracker gave."""
        result = replace(self.result, faces=tuple(face for _, face in tracked))
        return replace(self, result=result, tracks=tuple(track for track, _ in tracked))


def to_line(record: Record) -> str:
    """The answer of analyze and where the picture comes from, as JSON on one line.

    What a photo does not have is left out.
    """
    out = to_json(record.result, request_id=record.title, landmarks=True)
    faces = on_tracks(out["faces"], record.tracks)
    place: Row = {"source": record.source}
    if record.frame is not None and record.time_s is not None:
        place |= {"frame": record.frame, "time_s": round(record.time_s, 3)}
    return encode({**out, "faces": faces, **place}).decode()


def columns(heads: Mapping[Head, HeadSpec]) -> dict[str, type]:
    """The columns of a table and what is in them."""
    place = {"source": str, "frame": int, "time_s": float, "width": int, "height": int}
    face = {"faces": int, "face": int, "track_id": int, "detection_score": float}
    box = dict.fromkeys(("box_x", "box_y", "box_width", "box_height"), float)
    answers: dict[str, type] = {}
    for head, spec in heads.items():
        answers |= {head: str, f"{head}_probability": float, f"{head}_uncertain": bool}
        answers |= {f"{head}_{label}": float for label in spec.labels}
    return place | face | box | answers | {"size_px": int, "sharpness": float}


def to_rows(record: Record) -> list[Row]:
    """A row for each face; one without a face where there is none, so that nothing is missing."""
    result = record.result
    place: Row = {
        "source": record.source,
        "frame": record.frame,
        "time_s": None if record.time_s is None else round(record.time_s, 3),
        "width": result.width,
        "height": result.height,
        "faces": len(result.faces),
    }
    tracks = record.tracks or (None,) * len(result.faces)
    rows = [
        place | {"face": index, "track_id": track} | _face(face)
        for index, (face, track) in enumerate(zip(result.faces, tracks, strict=True))
    ]
    return rows or [place]


def _face(analyzed: AnalyzedFace) -> Row:
    box, quality = analyzed.face.box, analyzed.quality
    row: Row = {
        "detection_score": analyzed.face.score,
        "box_x": round(box.x, 2),
        "box_y": round(box.y, 2),
        "box_width": round(box.width, 2),
        "box_height": round(box.height, 2),
        "size_px": quality.size_px,
        "sharpness": round(quality.sharpness, 4),
    }
    for head, prediction in analyzed.predictions.items():
        row |= _answer(head, prediction)
    return row


def _answer(head: Head, prediction: Prediction) -> Row:
    row: Row = {
        head: prediction.label,
        f"{head}_probability": prediction.probability,
        f"{head}_uncertain": prediction.uncertain,
    }
    return row | {f"{head}_{label}": p for label, p in prediction.probabilities.items()}
