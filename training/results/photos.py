"""Sections of the page on whole photos: the service against the best box, and framing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.results.records import Records
from training.tables import table

WITHIN = 0.01


def photos_section(records: Records) -> list[str]:
    """The service with either detector against crops of the best box."""
    photos = {n: e.photos for n, e in records.entries.items() if e.photos}
    lines = [
        "## From photo to result",
        "",
        "FairFace photos, the central face of each: through the whole service, and cut from the "
        "best box (YuNet's) straight into the model. Compared where the service found the face. "
        "Gender; age where FairFace's band lies within one of ours (0-2, 3-9, 20-29, 40-69; its "
        "10-19, 30-39 and 70+ lie across an edge). The difference is in points, with its standard "
        "error from the answers that differ. `python -m training photos`.",
        "",
    ]
    header = ["model", "detector", "faces found", "head", "images", "service", "best box"]
    rows = [
        [name, detector, f"{service['found']} of {record['photos']}", head, *_compared(figures)]
        for name, record in photos.items()
        for detector, service in record["services"].items()
        for head, figures in service["heads"].items()
    ]
    lines += table([*header, "difference", "other answers", "within 1 point"], rows)
    lines += [
        "",
        "Median milliseconds of a photo in the service (wall time, beside other work):",
        "",
    ]
    times = [
        [name, detector, *(f"{value:.1f}" for value in service["ms"].values())]
        for name, record in photos.items()
        for detector, service in record["services"].items()
    ]
    lines += table(["model", "detector", "decode", "detect", "infer", "total"], times)
    return [*lines, *_boxes(list(photos.values()))]


def _boxes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    if not records:
        return []
    # The boxes are the same whatever model looks at them.
    rows = [
        [
            detector,
            *(f"{v['median']:.3f} ± {v['deviation']:.3f}" for v in service["boxes"].values()),
        ]
        for detector, service in records[-1]["services"].items()
    ]
    return [
        "",
        "Where the boxes lie, median and standard deviation: side over that of the best box, and "
        "the middle's offset in sides of it.",
        "",
        *table(["detector", "side", "right", "down"], rows),
    ]


def _compared(figures: Mapping[str, Any]) -> list[str]:
    difference = round(figures["accuracy"] - figures["best_box_accuracy"], 8)
    # Each answer that differs moves the difference by at most one face, to either side.
    error = figures["other_answers"] ** 0.5 / figures["samples"]
    return [
        f"{figures['samples']}",
        f"{figures['accuracy']:.1%}",
        f"{figures['best_box_accuracy']:.1%}",
        f"{difference * 100:+.1f} ± {error * 100:.1f}",
        f"{figures['other_answers']}",
        "yes" if abs(difference) <= WITHIN else "**no**",
    ]


def framing_section(records: Records) -> list[str]:
    """Gender accuracy by framing, a table for each model."""
    lines = [
        "## Framing",
        "",
        "Gender on the same photos, cut around YuNet's box: the square is `scale` times the side "
        "of the tight box, its middle `shift` sides below that of the box. `levelled`: turned "
        "until the eyes are level.",
    ]
    for name, entry in records.entries.items():
        if entry.photos:
            found = entry.photos["best_box"]["found"]
            lines += ["", f"### {name}", "", *_grid(entry.photos["framings"], found)]
    return lines


def _grid(rows: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    own, tried = rows[:2], rows[2:]
    columns = list(dict.fromkeys((row["levelled"], row["shift_y"]) for row in tried))
    columns.sort()
    cells = {(r["scale"], r["levelled"], r["shift_y"]): r["accuracy"] for r in tried}
    scales = dict.fromkeys(row["scale"] for row in tried)
    best = max(tried, key=lambda row: row["accuracy"])
    # Of one proportion; the errors of two framings go together, so they differ by less.
    error = (own[0]["accuracy"] * (1 - own[0]["accuracy"]) / count) ** 0.5
    return [
        f"The card's framing, scale {own[0]['scale']} and shift {own[0]['shift_y']}: "
        f"{own[0]['accuracy']:.1%}, levelled {own[1]['accuracy']:.1%} (standard error "
        f"{error * 100:.1f} points on {count} faces). Best of the grid: {best['accuracy']:.1%} at "
        f"scale {best['scale']}, shift {best['shift_y']}{', levelled' * best['levelled']}.",
        "",
        *table(
            ["scale", *(f"{'levelled' if turned else 'upright'} {s}" for turned, s in columns)],
            (
                [f"{scale}", *(f"{cells[scale, turned, s]:.1%}" for turned, s in columns)]
                for scale in scales
            ),
        ),
    ]
