from __future__ import annotations

from math import exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.card import HeadSpec
from service.core.tracking import Tracker, TrackOptions
from service.types import EMOTIONS, AnalyzedFace, Box, Face, Prediction, Quality

SPEC = HeadSpec(labels=EMOTIONS, uncertain_below=0.4)
Frames = list[tuple[float, list[AnalyzedFace]]]


def face(x: float, y: float = 0.0, side: float = 40.0, **probabilities: float) -> AnalyzedFace:
    """A face whose other emotions share what is left."""
    given_ = probabilities or {"happy": 0.7}
    rest = (1 - sum(given_.values())) / (len(EMOTIONS) - len(given_))
    values = {label: given_.get(label, rest) for label in EMOTIONS}
    label = max(values, key=values.__getitem__)
    prediction = Prediction(label, values[label], values[label] < 0.4, values)
    box = Box(x, y, side, side)
    return AnalyzedFace(Face(box, 0.9), {"emotion": prediction}, Quality(round(side), 0.5))


def tracker(**options: float) -> Tracker:
    return Tracker({"emotion": SPEC}, TrackOptions(**options))  # type: ignore[arg-type]


def ids(answer: list[tuple[int, AnalyzedFace]]) -> list[int]:
    return [track for track, _ in answer]


faces = st.builds(
    face,
    st.floats(0, 600),
    st.floats(0, 400),
    st.floats(5, 200),
    happy=st.floats(0, 0.5),
    sad=st.floats(0, 0.5),
)
streams = st.lists(st.tuples(st.floats(0, 0.7), st.lists(faces, max_size=6)), max_size=8)


def timed(stream: list[tuple[float, list[AnalyzedFace]]]) -> Frames:
    now, frames = 0.0, []
    for wait, found in stream:
        now += wait
        frames.append((now, found))
    return frames


@settings(max_examples=40)
@given(streams)
def test_ids_are_unique_in_a_frame_and_never_used_again(stream: Frames) -> None:
    follow = tracker()
    last_seen: dict[int, float] = {}
    newest = 0
    for now, found in timed(stream):
        for track in (got := ids(follow.update(found, now))):
            assert track > newest or now - last_seen[track] <= 2.5 * 0.7
        assert len(set(got)) == len(found)
        newest = max([newest, *got])
        last_seen |= dict.fromkeys(got, now)


@settings(max_examples=40)
@given(streams, st.randoms())
def test_the_order_of_faces_changes_nothing(stream: Frames, random: object) -> None:
    one, other = tracker(), tracker()
    for now, found in timed(stream):
        shuffled = list(range(len(found)))
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        expected = one.update(found, now)
        got = other.update([found[index] for index in shuffled], now)
        # Twins of one place and one answer may change places.
        assert sorted(map(repr, got)) == sorted(map(repr, expected))


@settings(max_examples=40)
@given(streams, st.floats(0, 5))
def test_probabilities_stay_a_distribution(stream: Frames, smoothing_s: float) -> None:
    follow = tracker(smoothing_s=smoothing_s)
    for now, found in timed(stream):
        for analyzed, (_, smoothed) in zip(found, follow.update(found, now), strict=True):
            prediction = smoothed.predictions["emotion"]
            assert sum(prediction.probabilities.values()) == pytest.approx(1)
            assert all(0 <= p <= 1 for p in prediction.probabilities.values())
            assert prediction.probability == prediction.probabilities[prediction.label]
            assert prediction.uncertain == (prediction.probability < 0.4)
            assert smoothed.face == analyzed.face


def scene(now: float, speed: float) -> AnalyzedFace:
    """One who walks, happy for a second and sad from then on."""
    mood = {"happy": 0.8} if now < 1 - 1e-9 else {"sad": 0.8}
    return face(20 + speed * now, **mood)


@settings(max_examples=20)
@given(st.sampled_from([10, 15, 30, 60]), st.floats(-120, 120))
def test_the_frame_rate_does_not_matter(rate: int, speed: float) -> None:
    answers = {}
    for fps in (5, rate):
        follow = tracker()
        answers[fps] = {
            round(index / fps, 6): follow.update([scene(index / fps, speed)], index / fps)[0]
            for index in range(3 * fps)
        }
    for now, (track, slow) in answers[5].items():
        assert track == 1
        if now not in answers[rate]:
            continue
        other, fast = answers[rate][now]
        assert other == 1
        mine, theirs = slow.predictions["emotion"], fast.predictions["emotion"]
        # The step comes one frame of its rate earlier or later, which is all that may differ.
        assert mine.probabilities["sad"] == pytest.approx(theirs.probabilities["sad"], abs=0.25)
        if now < 1 or now > 2:
            assert mine.probabilities["sad"] == pytest.approx(theirs.probabilities["sad"], abs=0.05)
            assert mine.label == theirs.label


def test_smoothing_has_its_time_constant() -> None:
    follow = tracker(smoothing_s=0.5)
    follow.update([face(0, happy=0.9)], 0.0)
    ((_, smoothed),) = follow.update([face(0, happy=0.1)], 0.5)
    happy = smoothed.predictions["emotion"].probabilities["happy"]
    assert happy == pytest.approx(0.1 + 0.8 * exp(-1))


def test_without_smoothing_each_frame_has_its_own_answer() -> None:
    follow = tracker(smoothing_s=0)
    follow.update([face(0, happy=0.51, sad=0.49)], 0.0)
    new = face(1, happy=0.49, sad=0.51)
    assert follow.update([new], 0.04) == [(1, new)]


def test_a_label_changes_only_when_another_is_clearly_ahead() -> None:
    follow = tracker(smoothing_s=0.1)
    labels = []
    for index in range(100):
        mood = {"happy": 0.52, "sad": 0.44} if index % 20 < 10 else {"happy": 0.44, "sad": 0.52}
        ((_, smoothed),) = follow.update([face(0, **mood)], index / 25)
        labels.append(smoothed.predictions["emotion"].label)
    assert set(labels) == {"happy"}
    for index in range(100, 125):
        ((_, smoothed),) = follow.update([face(0, sad=0.8)], index / 25)
    assert smoothed.predictions["emotion"].label == "sad"


def test_a_track_survives_a_short_gap_and_no_long_one() -> None:
    follow = tracker(max_gap_s=1.0)
    for index in range(33):
        # Away from 0.5 s to 1.4 s, and from 2.0 s to 3.1 s.
        found = [] if 5 <= index < 14 or 20 <= index < 31 else [face(3)]
        known = [1] if index < 20 else [2]
        assert ids(follow.update(found, index / 10)) == known * len(found)


def test_frames_that_are_far_apart_keep_their_tracks() -> None:
    follow = tracker(smoothing_s=10)
    times = [0.0, 0.01, 1.16, 2.4, 3.5, 4.7, 5.8]
    for index, time in enumerate(times):
        # In one frame the face is missed.
        found = [] if index == 4 else [face(0, happy=0.9 if index == 0 else 0.1)]
        assert ids(follow.update(found, time)) == [1] * len(found)
    ((_, smoothed),) = follow.update([face(0, happy=0.1)], 7.0)
    assert smoothed.predictions["emotion"].probabilities["happy"] > 0.4


def test_a_pause_among_fast_frames_ends_a_track() -> None:
    follow = tracker()
    for index in range(10):
        follow.update([face(0)], index / 10)
    assert ids(follow.update([face(0)], 3.0)) == [2]


def test_who_left_slow_frames_does_not_come_back_as_the_same() -> None:
    follow = tracker()
    for index in range(4):
        follow.update([face(0)], 1.2 * index)
    for index in range(4, 7):
        follow.update([], 1.2 * index)
    assert ids(follow.update([face(0)], 1.2 * 7)) == [2]


def test_two_who_pass_each_other_keep_their_tracks() -> None:
    follow = tracker()
    for index in range(30):
        answer = follow.update([face(10.0 * index), face(300 - 10.0 * index, 12)], index / 15)
        assert ids(answer) == [1, 2] or index == 0
        if index == 0:
            assert sorted(ids(answer)) == [1, 2]


def test_a_face_of_another_size_or_far_away_is_another_face() -> None:
    follow = tracker()
    follow.update([face(0, side=40)], 0.0)
    assert ids(follow.update([face(0, side=100), face(300, side=40)], 0.1)) == [2, 3]


def test_tracks_are_bounded_and_the_latest_stay() -> None:
    follow = tracker(max_tracks=4)
    follow.update([face(0)], 0.0)
    for index in range(10):
        follow.update([face(1000.0 * (index + 1))], 0.01 * (index + 1))
        assert len(follow._tracks) <= 4
    crowd = [face(100.0 * index, 900) for index in range(10)]
    assert len(set(ids(follow.update(crowd, 0.2)))) == 10
    assert len(follow._tracks) == 4


def test_time_that_goes_back_stands_still() -> None:
    follow = tracker()
    follow.update([face(0)], 10.0)
    assert ids(follow.update([face(0)], 5.0)) == [1]
    assert ids(follow.update([face(0)], 10.9)) == [1]


# Going on elsewhere ------------------------------------------------------------------------------


@settings(max_examples=40)
@given(streams, st.sampled_from((0.0, 0.0137, 0.3071, 0.7713, 1.2019)))
def test_resumed_it_answers_as_if_it_had_gone_on(stream: Frames, passed: float) -> None:
    first, other = tracker(), tracker()
    for time, found in timed(stream):
        first.update(found, time)
    last = timed(stream)[-1][0] if stream else 0.0
    # The other one's clock is not ours.
    other.resume(first.state(most=100), time=5000 + passed, passed_s=passed)
    found = [face(10, happy=0.5), face(300, sad=0.6)]
    ours, theirs = first.update(found, last + passed), other.update(found, 5000 + passed)
    assert ids(ours) == ids(theirs)
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        expected = a.predictions["emotion"].probabilities
        assert b.predictions["emotion"].probabilities == pytest.approx(expected, abs=1e-6)


def test_a_state_that_is_too_old_gives_no_id_again() -> None:
    first, other = tracker(), tracker()
    first.update([face(0), face(200)], 0.0)
    assert other.resume(first.state(most=100), time=60.0, passed_s=60.0) == 0
    assert ids(other.update([face(0)], 60.0)) == [3]


def test_a_state_has_the_tracks_seen_last() -> None:
    first = tracker()
    first.update([face(0)], 0.0)
    first.update([face(300)], 0.5)
    assert [track.id for track in first.state(most=1).tracks] == [2]


def test_answers_of_other_labels_begin_anew() -> None:
    first = tracker()
    first.update([face(0, happy=0.7)], 0.0)
    other = Tracker({"emotion": HeadSpec(labels=("calm", "happy"), uncertain_below=0.4)})
    assert other.resume(first.state(most=9), time=0.1, passed_s=0.1) == 1
    calm = Prediction("calm", 0.9, False, {"calm": 0.9, "happy": 0.1})
    new = AnalyzedFace(Face(Box(0, 0, 40, 40), 0.9), {"emotion": calm}, Quality(40, 0.5))
    assert other.update([new], 0.1) == [(1, new)]
