"""One request over HTTP against the sum of its bare parts, in one run; start to ready; memory.

The bare parts are what any service of this kind must do: OpenCV's decode, the detector, and one
ONNX Runtime run per model, called one after the other in this process. The two take turns, so
that a machine that gets slower slows both.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from service.build import open_analyzer, open_detector
from service.core.metrics import Metrics
from service.runtime.registry import load_models
from service.runtime.session import SessionOptions
from service.settings import Settings
from service.types import CropItem
from service.vision.crops import crop_face

ROUNDS = 200
MAX_RATIO, MAX_START_S, MAX_RSS_MB = 1.3, 3.0, 300.0
PHOTO = Path(__file__).parent.parent / "tests" / "media" / "astronaut.jpg"


def main() -> None:
    """Measure, print, and exit with the targets that were missed, if any."""
    photo = vga(PHOTO.read_bytes())
    with server() as (process, port, ready_s):
        http_s, bare_s = in_turns(poster(port, photo), bare(photo))
        rss_mb = _rss_mb(process.pid)
    ratio = statistics.median(http_s) / statistics.median(bare_s)
    table = Table("figure", "value", "target", title=f"One 640x480 photo, {ROUNDS} rounds")
    table.add_row("HTTP p50", f"{statistics.median(http_s) * 1000:.2f} ms", "")
    table.add_row("bare parts p50", f"{statistics.median(bare_s) * 1000:.2f} ms", "")
    table.add_row("HTTP p99", f"{_quantile(http_s, 0.99) * 1000:.2f} ms", "")
    bounded = (
        ("ratio of the p50", ratio, MAX_RATIO, ""),
        ("start to ready", ready_s, MAX_START_S, " s"),
        ("resident memory", rss_mb, MAX_RSS_MB, " MB"),
    )
    for figure, value, bound, unit in bounded:
        table.add_row(figure, f"{value:.2f}{unit}", f"<= {bound:g}{unit}")
    Console().print(table)
    if missed := [figure for figure, value, bound, _ in bounded if not value <= bound]:
        raise SystemExit(f"over target: {', '.join(missed)}")


def poster(port: int, photo: bytes) -> Callable[[], None]:
    """A call that has a photo analysed over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def over_http() -> None:
        connection.request("POST", "/v1/analyze", photo, {"content-type": "image/jpeg"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or b'"emotion"' not in body:
            raise RuntimeError(f"{answer.status}: {body[:200]!r}")

    return over_http


def vga(data: bytes) -> bytes:
    """A photo as a JPEG of 640x480."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    canvas = np.full((480, 640, 3), 127, np.uint8)
    canvas[:, 80:560] = cv2.resize(pixels, (480, 480), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", canvas)[1].tobytes()


def bare(photo: bytes) -> Callable[[], None]:
    """A call that decodes a photo, finds its faces and runs the default models."""
    settings = Settings()
    cv2.setNumThreads(1)
    detector = open_detector(settings)
    # The very models that are served: on the CPU the variants of the defaults.
    served = open_analyzer(settings, Metrics(CollectorRegistry())).default_heads
    names = sorted({card.name for card in served.values()})
    models = load_models(settings.models_dir, names, SessionOptions("cpu"))
    for model in models.values():
        model.warm_up()

    def run() -> None:
        pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
        faces = detector.detect(pixels, threshold=None, min_face_px=settings.min_face_px)
        for model in models.values():
            heads = tuple(model.card.heads)
            model.run([CropItem(crop_face(pixels, f.box, model.card.input), heads) for f in faces])

    return run


def in_turns(
    *calls: Callable[[], None], rounds: int = ROUNDS, shuffle: bool = False
) -> list[list[float]]:
    """Seconds that each call took, round by round; `shuffle` has each round in another order."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls * 10:
        call()
    pairs = list(zip(calls, times, strict=True))
    for _ in range(rounds):
        if shuffle:
            random.shuffle(pairs)
        for call, taken in pairs:
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return times


@contextmanager
def server(
    *flags: str, tree: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """A server with these flags: its process, its port, and seconds from start to ready.

    Its source is that of `tree`, if it is given.
    """
    started = time.perf_counter()
    mien = str(Path(sys.executable).with_name("mien"))
    env = os.environ | ({"PYTHONPATH": str(tree)} if tree else {})
    command = [mien, "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        port, ready = 0, False
        for line in process.stderr or ():
            if match := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                port = int(match[1])
            ready = ready or '"ready"' in line
            if port and ready:
                break
        taken = time.perf_counter() - started
        # Nobody reads on: what the server logs from here on must not fill the pipe.
        subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        try:
            yield process, port, taken
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _rss_mb(pid: int) -> float:
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else float("nan")


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


if __name__ == "__main__":
    main()
