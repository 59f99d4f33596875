"""The real thing: `mien serve` as a process, used over a socket, and ended by a signal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

PHOTO = (Path(__file__).parent / "media" / "astronaut.jpg").read_bytes()
JPEG = {"content-type": "image/jpeg"}
MIEN = [str(Path(sys.executable).with_name("mien"))]
ON_CI = os.environ.get("CI") == "true"


@contextmanager
def serving(*flags: str, prefix: tuple[str, ...] = ()) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server on a free port, once it is ready; killed at the end if it still runs."""
    command = [*prefix, *MIEN, "serve", "--port", "0", *flags]
    # A session of its own: what strace started must go with it, or the pipe stays open.
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        lines: list[str] = []
        listening, ready = threading.Event(), threading.Event()

        def read() -> None:
            for line in process.stderr:
                lines.append(line)
                if "running on" in line:
                    listening.set()
                if '"ready"' in line:
                    ready.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            assert ready.wait(60), "".join(lines)
            assert listening.wait(60), "".join(lines)
            url = next(m[0] for line in lines if (m := re.search(r"http://127[\d.:]+", line)))
            process.lines = lines
            yield process, url
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            reader.join()


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def test_a_request_in_flight_survives_sigterm():
    with serving("--drain-delay-s", "1") as (process, url), httpx.Client(base_url=url) as client:
        statuses: list[int] = []

        def slow_body() -> Iterator[bytes]:
            half = len(PHOTO) // 2
            yield PHOTO[:half]
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            unready = httpx.get(f"{url}/readyz")
            statuses.append(unready.status_code)
            assert unready.json()["code"] == "draining"
            yield PHOTO[half:]

        response = client.post("/v1/analyze", content=slow_body(), headers=JPEG)
        assert response.status_code == 200
        assert len(response.json()["faces"]) == 1
        assert statuses == [503]
        process.wait(20)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/livez")


def test_logs_are_json_without_pictures():
    with serving() as (process, url):
        httpx.post(f"{url}/v1/analyze", content=PHOTO, headers={**JPEG, "x-request-id": "me-1"})
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    records = [json.loads(line) for line in process.lines]
    (mine,) = [record for record in records if record.get("request_id") == "me-1"]
    assert mine["event"] == "request"
    assert (mine["status"], mine["route"], mine["method"]) == (200, "/v1/analyze", "POST")
    assert max(len(line) for line in process.lines) < 2000


def test_memory_is_flat_over_2000_requests():
    pixels = cv2.imdecode(np.frombuffer(PHOTO, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.imencode(".jpg", pixels[40:210, 140:310])[1].tobytes()
    with serving() as (process, url), httpx.Client(base_url=url) as client:

        def send(count: int) -> None:
            for _ in range(count):
                assert client.post("/v1/analyze", content=small, headers=JPEG).status_code == 200

        send(400)
        before = rss_mb(process.pid)
        send(1600)
        growth = rss_mb(process.pid) - before
        assert growth < 8, f"{growth:.1f} MB over 1600 requests"


@pytest.mark.skipif(not shutil.which("strace") and not ON_CI, reason="needs strace")
def test_no_outgoing_connection(tmp_path):
    """At import, start and use: every connect and every datagram goes to loopback or a file."""
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace))
    with serving(prefix=strace) as (_, url):
        assert httpx.post(f"{url}/v1/analyze", content=PHOTO, headers=JPEG).status_code == 200
        httpx.get(f"{url}/metrics")
    text = trace.read_text()
    families = re.findall(r"sa_family=(AF_\w+)", text)
    assert "AF_INET" not in families, text
    assert "AF_INET6" not in families, text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "99999"], "port"),
        (["--models", "nobody"], "nobody"),
        (["--bogus", "1"], "bogus"),
        (["--detector", "yunet"], "yunet_path"),
        (["--models-dir", "/nonexistent"], "/nonexistent"),
        (["--rate-limit", "lots"], "rate_limit"),
    ],
)
def test_a_bad_start_is_refused_with_the_reason(flags, message):
    done = subprocess.run(
        [*MIEN, "serve", "--port", "0", *flags], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_environment_is_refused():
    done = subprocess.run(
        [*MIEN, "models"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "MIEN_MODLES": "x"},
    )
    assert done.returncode == 2
    assert "MIEN_MODLES" in done.stderr
