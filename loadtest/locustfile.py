"""REST users who post photos: half with one face, a third with several, the rest with none."""

import logging
import random
import sys
from itertools import chain
from pathlib import Path

from locust import FastHttpUser, constant, events, task
from locust.env import Environment

ROOT = Path(__file__).parent.parent
FOLDERS = ROOT / "tests/media", ROOT.parent / "shared/data/media"
WEIGHTS_AND_PATTERNS = {
    "one face": (5, ("astronaut.*", "Family*", "detection[1-3].jpg")),
    "several faces": (
        3,
        ("faces.jpg", "multi_face.jpg", "identification1.jpg", "detection[4-6].jpg"),
    ),
    "no face": (2, ("dog.jpg", "house.jpg", "printed_text.jpg")),
}
MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}

# What is there: the photos beside the checkout are not part of it.
PHOTOS = {
    kind: found
    for kind, (_, patterns) in WEIGHTS_AND_PATTERNS.items()
    if (
        found := [
            (path.name, path.read_bytes(), MEDIA_TYPES[path.suffix])
            for path in chain.from_iterable(f.glob(p) for f in FOLDERS for p in patterns)
        ]
    )
}
if not PHOTOS:
    raise SystemExit(f"no photo in {FOLDERS[0]}")
KINDS = list(PHOTOS)
KIND_WEIGHTS = [WEIGHTS_AND_PATTERNS[kind][0] for kind in KINDS]

faces_of: dict[str, int] = {}


class Client(FastHttpUser):
    """Posts the next photo as soon as the last is answered."""

    wait_time = constant(0)

    @task
    def analyze(self) -> None:
        kind = random.choices(KINDS, KIND_WEIGHTS)[0]
        name, data, media_type = random.choice(PHOTOS[kind])
        with self.client.post(
            "/v1/analyze",
            data=data,
            headers={"Content-Type": media_type},
            name=kind,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code} {response.text[:200]}")
                return
            # Under load a photo must still give what it gave the first time.
            count = len(response.json()["faces"])
            if count != faces_of.setdefault(name, count):
                response.failure(f"{name}: {count} faces, first {faces_of[name]}")


@events.quitting.add_listener
def print_table(environment: Environment) -> None:
    columns = "photos", "requests", "requests/s", "p50 ms", "p99 ms", "failures"
    rows: list[tuple[object, ...]] = [columns, ("---",) * len(columns)]
    for entry in [*environment.stats.entries.values(), environment.stats.total]:
        p50, p99 = map(entry.get_response_time_percentile, (0.5, 0.99))
        speed = f"{entry.total_rps:.1f}"
        rows.append(
            (
                entry.name.replace("Aggregated", "all"),
                entry.num_requests,
                speed,
                p50,
                p99,
                entry.num_failures,
            )
        )
    sys.stdout.writelines(f"| {' | '.join(map(str, row))} |\n" for row in rows)
    sys.stdout.writelines(
        f"{e.occurrences} x {e.error}\n" for e in environment.stats.errors.values()
    )
    # Locust's own summary would follow, and say it again in eighty lines.
    logging.getLogger("locust.stats_logger").setLevel(logging.WARNING)
