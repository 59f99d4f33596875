"""POST a photo to a running server and print its answer: `demo.py URL PHOTO`."""

import json
import mimetypes
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main(url: str, photo: str) -> int:
    """Print the JSON of `photo`, or the server's reason why there is none."""
    media_type = mimetypes.guess_type(photo)[0] or "application/octet-stream"
    request = urllib.request.Request(
        f"{url}/v1/analyze", Path(photo).read_bytes(), {"Content-Type": media_type}
    )
    try:
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"{photo}: {error.code} {error.read().decode()}\n")
        return 1
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
