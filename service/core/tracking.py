"""Faces over time: track ids, and answers that do not flicker. Pure; time is an argument.

A face goes on a track that is near where the track should be by now (SORT, Bewley et al. 2016,
with the velocity of the box's centre instead of a Kalman filter), all faces at the least total
cost. Probabilities are smoothed with a time constant, so that the frame rate does not matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import exp
from statistics import median_high

import numpy as np
from numpy.typing import NDArray

from service.card import HeadSpec
from service.core.assignment import assign
from service.types import AnalyzedFace, Box, Head, Prediction
from service.vision.geometry import iou

_IMPOSSIBLE = 1e6
_VELOCITY_S = 0.2
"""Time constant of the velocity: it follows a turn of the head, not the jitter of the box."""
_COAST_S = 0.5
"""A face that is out of sight goes on for as long at most: it may have stopped."""
_PACE_FRAMES = 4
"""The usual time between frames is that of so many, and the median: one pause is not usual."""
_GAP_FRAMES = 2.5
"""A face may be missed in one frame, and frames do not come on the dot."""
_LONGEST_GAP_S = 10.0
"""However slow the frames: somebody else may have sat down."""

Costs = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """How faces are followed and their answers smoothed."""

    smoothing_s: float = 0.6
    """Time constant of the probabilities; 0 gives each frame's own answer."""
    margin: float = 0.1
    """By so much another label must be ahead, smoothed, before the label changes."""
    max_gap_s: float = 1.0
    """A track that was not seen for longer is over, and its id is not used again; longer where
    frames are so far apart that a face could not be missed in one of them."""
    max_tracks: int = 256
    """Kept at a time; those that were not seen for longest are let go first."""
    max_distance: float = 0.75
    """Between centres, of face and prediction, over their mean side."""
    max_growth: float = 2.0
    """Of the side, either way."""


@dataclass(frozen=True, slots=True)
class TrackState:
    """What another tracker must know of a track to go on with it."""

    id: int
    box: Box
    velocity: tuple[float, float]
    unseen_s: float
    answers: Mapping[Head, tuple[str, Mapping[str, float]]]
    """The label that is shown, and the smoothed probabilities."""


@dataclass(frozen=True, slots=True)
class TrackerState:
    """What a tracker knows, without a clock of its own."""

    next_id: int
    tracks: Sequence[TrackState]
    frames_s: Sequence[float] = ()
    """How long before the latest frame each of the latest ones was."""


@dataclass(slots=True)
class _Track:
    id: int
    box: Box
    seen_at: float
    velocity: tuple[float, float] = (0.0, 0.0)
    predictions: dict[Head, Prediction] = field(default_factory=dict)

    def box_at(self, time: float) -> Box:
        """Where the box should be by now, if it slows down."""
        coasted = _COAST_S * (1 - exp((self.seen_at - time) / _COAST_S))
        x, y = self.velocity
        return replace(self.box, x=self.box.x + x * coasted, y=self.box.y + y * coasted)

    def move(self, box: Box, time: float) -> None:
        """It was seen there."""
        passed = time - self.seen_at
        if passed > 0:
            (x, y), (old_x, old_y) = box.center, self.box.center
            keep = exp(-passed / _VELOCITY_S)
            self.velocity = (
                keep * self.velocity[0] + (1 - keep) * (x - old_x) / passed,
                keep * self.velocity[1] + (1 - keep) * (y - old_y) / passed,
            )
        self.box, self.seen_at = box, time


class Tracker:
    """The tracks of one stream; its memory is bounded by `max_tracks`."""

    def __init__(self, heads: Mapping[Head, HeadSpec], options: TrackOptions | None = None) -> None:
        """Begin without tracks.

        Args:
            heads: labels and threshold of each head that is answered.
            options: how faces are followed.
        """
        self._heads = heads
        self._options = options or TrackOptions()
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._times: deque[float] = deque(maxlen=_PACE_FRAMES)

    def update(self, faces: Sequence[AnalyzedFace], time: float) -> list[tuple[int, AnalyzedFace]]:
        """Put the faces of one frame on tracks.

        Args:
            faces: in any order.
            time: of the frame, in seconds of any clock; one that goes back counts as standing.

        Returns:
            Track id, and the face with smoothed predictions, in the order of `faces`.
        """
        if self._times:
            time = max(time, self._times[-1])
        gap_s = self._gap_s(time)
        self._times.append(time)
        self._tracks = [track for track in self._tracks if time - track.seen_at <= gap_s]
        # In an order of their own, so that nothing depends on the order in which faces come.
        order = sorted(range(len(faces)), key=lambda index: _order(faces[index]))
        tracks = self._matched([faces[index].face.box for index in order], time)
        answers = {
            index: (track.id, self._smoothed(track, faces[index], time))
            for index, track in zip(order, tracks, strict=True)
        }
        self._forget()
        return [answers[index] for index in range(len(faces))]

    def state(self, most: int) -> TrackerState:
        """What it knows after its latest frame; of the tracks those seen last, `most` at most."""
        tracks = [
            TrackState(
                track.id,
                track.box,
                track.velocity,
                self._times[-1] - track.seen_at,
                {head: (p.label, p.probabilities) for head, p in track.predictions.items()},
            )
            for track in self._tracks[:most]
        ]
        frames_s = [self._times[-1] - time for time in self._times]
        return TrackerState(self._next_id, tracks, frames_s)

    def resume(self, state: TrackerState, time: float, passed_s: float) -> int:
        """Go on where another tracker was; answers of other labels than ours begin anew.

        Args:
            state: what the other one knew.
            time: now, as for `update`.
            passed_s: since then.

        Returns:
            How many of its tracks are not over yet.
        """
        self._next_id = state.next_id
        seen_s = (time - passed_s - ago for ago in state.frames_s)
        self._times = deque(seen_s, maxlen=_PACE_FRAMES)
        gap_s = self._gap_s(time)
        self._tracks = [
            _Track(
                track.id,
                track.box,
                time - passed_s - track.unseen_s,
                track.velocity,
                dict(self._resumed(track.answers)),
            )
            for track in state.tracks
            if passed_s + track.unseen_s <= gap_s
        ]
        return len(self._tracks)

    def _gap_s(self, time: float) -> float:
        """How long a face may have been out of sight when a frame comes at `time`."""
        apart = [after - before for before, after in pairwise([*self._times, time])]
        usual = median_high(apart) if apart else 0.0
        return max(self._options.max_gap_s, min(_GAP_FRAMES * usual, _LONGEST_GAP_S))

    def _resumed(
        self, answers: Mapping[Head, tuple[str, Mapping[str, float]]]
    ) -> Iterator[tuple[Head, Prediction]]:
        for head, (label, values) in answers.items():
            spec = self._heads.get(head)
            if spec is not None and set(values) == set(spec.labels):
                total = sum(values.values())
                scaled = {name: values[name] / total for name in spec.labels}
                top = scaled[label]
                yield head, Prediction(label, top, top < spec.uncertain_below, scaled)

    def _matched(self, boxes: Sequence[Box], time: float) -> list[_Track]:
        """A track for each box: the one that it goes on, or a new one."""
        costs = self._costs(boxes, [track.box_at(time) for track in self._tracks])
        found = {
            row: self._tracks[column]
            for row, column in assign(costs)
            if costs[row, column] < _IMPOSSIBLE
        }
        for row, box in enumerate(boxes):
            if row not in found:
                found[row] = _Track(self._next_id, box, time)
                self._next_id += 1
                self._tracks.append(found[row])
        return [found[row] for row in range(len(boxes))]

    def _costs(self, boxes: Sequence[Box], expected: Sequence[Box]) -> Costs:
        """(boxes, expected): lack of overlap and distance, or `_IMPOSSIBLE`."""
        a, b = _array(boxes), _array(expected)
        sides = np.sqrt(a[:, 2] * a[:, 3])[:, np.newaxis], np.sqrt(b[:, 2] * b[:, 3])
        apart = np.linalg.norm(_centers(a)[:, np.newaxis] - _centers(b), axis=-1)
        distance = apart / np.maximum((sides[0] + sides[1]) / 2, 1e-6)
        similar = np.maximum(*sides) <= self._options.max_growth * np.minimum(*sides)
        near = similar & (distance <= self._options.max_distance)
        return np.where(near, 1 - iou(a, b) + distance, _IMPOSSIBLE).astype(np.float64)

    def _smoothed(self, track: _Track, analyzed: AnalyzedFace, time: float) -> AnalyzedFace:
        tau = self._options.smoothing_s
        keep = exp(-(time - track.seen_at) / tau) if tau > 0 else 0.0
        track.move(analyzed.face.box, time)
        track.predictions = {
            head: self._blend(track.predictions.get(head), new, keep, self._heads[head])
            for head, new in analyzed.predictions.items()
        }
        return replace(analyzed, predictions=dict(track.predictions))

    def _blend(
        self, old: Prediction | None, new: Prediction, keep: float, spec: HeadSpec
    ) -> Prediction:
        if old is None or self._options.smoothing_s == 0:
            return new
        mixed = {
            label: keep * old.probabilities[label] + (1 - keep) * value
            for label, value in new.probabilities.items()
        }
        top = max(mixed, key=mixed.__getitem__)
        label = top if mixed[top] >= mixed[old.label] + self._options.margin else old.label
        return Prediction(label, mixed[label], mixed[label] < spec.uncertain_below, mixed)

    def _forget(self) -> None:
        # The sort is stable: of tracks seen at one time the older ones stay.
        self._tracks.sort(key=lambda track: -track.seen_at)
        del self._tracks[self._options.max_tracks :]


def _array(boxes: Sequence[Box]) -> NDArray[np.float32]:
    rows = [(box.x, box.y, box.width, box.height) for box in boxes]
    return np.array(rows, np.float32).reshape(-1, 4)


def _centers(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return boxes[:, :2] + boxes[:, 2:] / np.float32(2)


def _order(analyzed: AnalyzedFace) -> tuple[object, ...]:
    box = analyzed.face.box
    answers = {head: tuple(p.probabilities.values()) for head, p in analyzed.predictions.items()}
    return (-box.side, box.x, box.y, box.width, analyzed.face.score, sorted(answers.items()))
