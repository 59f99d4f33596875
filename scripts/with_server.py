"""Run a command against a server of its own; `{url}` in the command is its address."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


def free_port() -> int:
    """Give a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    """Wait for /readyz.

    Raises:
        SystemExit: the server ended or did not become ready in time.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=1).close()
            return
        except urllib.error.HTTPError as error:
            last = error.read().decode()
        except OSError as error:
            last = str(error)
        time.sleep(0.05)
    raise SystemExit(f"the server is not ready after {READY_TIMEOUT_S} s: {last}")


def main(command: list[str]) -> int:
    """Start a server, run the command, stop the server; give the command's exit status."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # The program of this environment, whatever PATH says; its logs do not mix with the answer.
    mien = [str(Path(sys.executable).with_name("mien")), "serve", "--log-level", "warning"]
    server = subprocess.Popen([*mien, "--port", str(port)], stdout=sys.stderr)
    try:
        wait_until_ready(server, url)
        return subprocess.run([part.replace("{url}", url) for part in command]).returncode
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
