"""How long a face takes in several graphs: in turns, so that a busy machine slows all alike.

It is the thread's own time: on a machine where others wanted the cores too, waiting for one made
int8 of mini-Xception 8.5 times as slow as float32 by the clock, and 1.2 times in truth.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.runtime.session import OrtSession

ROUNDS = {1: 200, 32: 30}
"""Faces in a run -> runs."""


@dataclass(frozen=True, slots=True)
class Times:
    """Of one graph, by the number of faces in a run."""

    ms: Mapping[int, float]
    """Milliseconds of one face: the median."""
    ratio: Mapping[int, float]
    """To the first graph: the median over the rounds."""


def compare(
    sessions: Mapping[str, OrtSession],
    crops: NDArray[np.uint8],
    rounds: Mapping[int, int] = ROUNDS,
) -> dict[str, Times]:
    """Time graphs of one input and one set of outputs against the first of them.

    Args:
        sessions: name -> session of one thread.
        crops: uint8 (N, S, S, C), at least as many as the largest run.
        rounds: faces in a run -> runs of each graph.
    """
    ms: dict[str, dict[int, float]] = {name: {} for name in sessions}
    ratio: dict[str, dict[int, float]] = {name: {} for name in sessions}
    for faces, count in rounds.items():
        for session in sessions.values():
            _seconds(session, crops[:faces])  # warms up
        taken: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(count):
            for name, session in sessions.items():
                taken[name].append(_seconds(session, crops[:faces]))
        first = next(iter(taken.values()))
        for name, seconds in taken.items():
            ms[name][faces] = round(statistics.median(seconds) / faces * 1000, 3)
            pairs = zip(seconds, first, strict=True)
            ratio[name][faces] = round(statistics.median(mine / base for mine, base in pairs), 3)
    return {name: Times(ms[name], ratio[name]) for name in sessions}


def processor() -> str:
    """What the CPU calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _seconds(session: OrtSession, crops: NDArray[np.uint8]) -> float:
    (name,) = session.inputs
    started = time.thread_time()
    session.run(name, crops, list(session.outputs))
    return time.thread_time() - started
