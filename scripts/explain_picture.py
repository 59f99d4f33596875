"""Draw what a running server explains of a photo: `explain_picture.py URL PHOTO PICTURE`.

A row for each method, a column for each head of the largest face.
"""

import base64
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np

METHODS = ("guided", "gradient", "occlusion")
STRIP_PX = 28


def explained(url: str, photo: bytes, method: str) -> dict[str, Any]:
    """The explanations of the largest face, by head."""
    request = urllib.request.Request(
        f"{url}/v1/explain?overlay=true&max_faces=1&method={method}",
        photo,
        {"Content-Type": "image/jpeg"},
    )
    with urllib.request.urlopen(request) as response:
        explanations: dict[str, Any] = json.load(response)["faces"][0]["explanations"]
    return explanations


def tile(explanation: dict[str, Any], text: str) -> Any:
    """One picture with what it is under it: uint8 (256 + STRIP_PX, 256, 3) BGR."""
    data = np.frombuffer(base64.b64decode(explanation["png"]), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    strip = np.full((STRIP_PX, picture.shape[1], 3), 255, np.uint8)
    place, font = (8, STRIP_PX - 9), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, text, place, font, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def main(url: str, photo: str, picture: str) -> int:
    """Write `picture`."""
    rows = []
    for method in METHODS:
        found = explained(url, Path(photo).read_bytes(), method)
        rows.append(
            np.hstack([tile(each, f"{method}: {each['label']}") for each in found.values()])
        )
    sheet = np.vstack(rows)
    Path(picture).write_bytes(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
