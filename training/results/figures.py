"""Sections of the page on accuracy, size and speed, calibration and slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.settings import Settings
from training.results.records import MAX_ECE, Records
from training.tables import table

Task = tuple[str, str]
"""A head and a set."""


def accuracy_section(records: Records) -> list[str]:
    """All models x all heads and sets."""
    tasks = _tasks(records)
    rows = []
    for name, entry in records.entries.items():
        cells = [entry.figure("accuracy", head, data) for head, data in tasks]
        if any(cell is not None for cell in cells):
            rows.append([name, *("" if cell is None else f"{cell:.1%}" for cell in cells)])
    missing = records.unmeasured()
    return [
        "## Accuracy",
        "",
        "FER2013: the official public test (3,589 images). UTKFace and All-Age-Faces: our "
        "validation part, a tenth of the photo groups, never seen in training. By class, with "
        "confusion: `models/<name>/evaluation.md`.",
        "",
        *table(["model", *(f"{head}, {data}" for head, data in tasks)], rows),
        *(["", f"Not measured: {', '.join(missing)}."] if missing else []),
        "",
        "### Every figure",
        "",
        "`over folds`: mean and standard deviation of the accuracy over five seeded folds of the "
        "same part, by photo group. It is one model on all folds and tells how far a figure "
        "depends on the images that were drawn; it is **not** cross-validated training, which "
        "would train five networks.",
        "",
        *_all_figures(records),
    ]


def _all_figures(records: Records) -> list[str]:
    header = ["model", "head, data", "images", "accuracy", "over folds", "macro precision"]
    header += ["macro recall", "macro F1", "weighted F1", "ECE", "uncertain", "right else"]
    rows = [
        [
            name,
            f"{r['head']}, {r['data']}",
            f"{r['samples']}",
            f"{r['accuracy']:.1%}",
            _spread(r),
            *(f"{r[figure]:.3f}" for figure in ("macro_precision", "macro_recall", "macro_f1")),
            f"{r['weighted_f1']:.3f}",
            f"{r['ece']:.1%}",
            f"{r['uncertain_share']:.1%}",
            "-" if r["certain_accuracy"] is None else f"{r['certain_accuracy']:.1%}",
        ]
        for name, entry in records.entries.items()
        for r in entry.results
    ]
    return table(header, rows)


def _spread(result: Mapping[str, Any]) -> str:
    if "folds" not in result:
        return "-"
    values = result["folds"]["figures"]["accuracy"]
    return f"{values['mean']:.1%} ± {values['deviation']:.1%}"


def speed_section(records: Records) -> list[str]:
    """Parameters, bytes and time of every model."""
    rows = [
        [name, f"{entry.card.parameters:,}", *_times(entry.speed)]
        for name, entry in records.entries.items()
    ]
    reference = records.speed.get("reference", "the reference")
    header = ["model", "parameters", "MB", "ms a face", f"x {reference}", "ms a face of 32"]
    where = records.speed.get("cpu", "a machine that was not recorded")
    return [
        "## Size and speed",
        "",
        f"One crop through the service's session on one thread of {where}: median CPU time of 200 "
        "rounds, the models in turns. `python -m benchmarks.models`.",
        "",
        *table(header, rows),
    ]


def _times(speed: Mapping[str, Any] | None) -> list[str]:
    if speed is None:
        return ["-"] * 4
    megabytes = speed["bytes"] / 1e6
    return [f"{megabytes:.2f}", *(f"{speed[key]:.2f}" for key in ("ms", "ratio", "ms_in_batch"))]


def variants_section(records: Records) -> list[str]:
    """Models in int8 and fp16, and which of them is kept."""
    tried = {name: e.quantization for name, e in records.entries.items() if e.quantization}
    header = ["model", "file", "MB", "points lost", "time, 1 face", "time, most faces", "kept"]
    rows = [
        [
            name,
            row["variant"],
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['lost_points']:.2f}",
            *(f"x {ratios[place]:.2f}" for place in (0, -1)),
            _kept(name) if row["variant"] == record["default"] else "",
        ]
        for name, record in tried.items()
        for row in record["rows"]
        if (ratios := list(row["time_ratio"].values()))
    ]
    untried = [
        name for name, e in records.entries.items() if name not in tried and not e.card.variant_of
    ]
    return [
        "## Smaller and faster",
        "",
        "Points lost: the worst of all heads and sets, in points of accuracy. Time: over that of "
        "the float32 file in the same run. Kept: the fastest that loses at most 0.3 points; a kept "
        "variant is served by its own name, and answers in place of a default model. `python -m "
        "export quantize`; the whole tables are in `models/<name>/quantization.md`.",
        "",
        *table(header, rows),
        *(["", f"Not tried: {', '.join(untried)}."] if untried else []),
    ]


def _kept(name: str) -> str:
    return "default" if name in Settings.model_fields["default_models"].default else "yes"


def calibration_section(records: Records) -> list[str]:
    """ECE of every head on every set, and those that are above the limit."""
    tasks = _tasks(records)
    rows = []
    for name, entry in records.entries.items():
        cells = [entry.figure("ece", head, data) for head, data in tasks]
        if any(cell is not None for cell in cells):
            rows.append([name, *("" if cell is None else f"{cell:.1%}" for cell in cells)])
    above = records.above()
    lines = [f"- {line}" for line in above] or ["None."]
    return [
        "## Calibration",
        "",
        "Expected calibration error in 15 bins of equal width. A temperature for each head is "
        "fitted on the validation parts of all its sets together, and is inside the graph "
        "(ADR 11).",
        "",
        *table(["model", *(f"{head}, {data}" for head, data in tasks)], rows),
        "",
        f"Above {MAX_ECE:.0%} (`python -m training calibration` lists them and fails if there is "
        "one):",
        "",
        *lines,
        "",
        "Over five folds of the same images, each at the temperature and threshold that the other "
        "four give:",
        "",
        *table(["model", "head", "images", "ECE", "uncertain", "right else"], _crossed(records)),
    ]


def _crossed(records: Records) -> list[list[str]]:
    return [
        [
            name,
            head,
            str(fitted["samples"]),
            f"{fitted['ece']:.1%}",
            f"{fitted['uncertain_share']:.1%}",
            "-" if fitted["certain_accuracy"] is None else f"{fitted['certain_accuracy']:.1%}",
        ]
        for name, entry in records.entries.items()
        if entry.calibration
        for head, fitted in entry.calibration["heads"].items()
    ]


def slices_section(records: Records) -> list[str]:
    """Accuracy by race, gender and age band, a table for each set and attribute."""
    lines = ["## By group", "", "Accuracy; the number of images stands in the header."]
    parts = {
        (r["data"], attribute): values
        for entry in records.entries.values()
        for r in entry.results
        for attribute, values in r["slices"].items()
    }
    for (data, attribute), values in parts.items():
        header = [f"{value} ({figures['samples']})" for value, figures in values.items()]
        rows = [
            [name, r["head"], *(f"{f['accuracy']:.1%}" for f in r["slices"][attribute].values())]
            for name, entry in records.entries.items()
            for r in entry.results
            if r["data"] == data and attribute in r["slices"]
        ]
        lines += ["", f"### {data}, by {attribute}", "", *table(["model", "head", *header], rows)]
    return lines


def _tasks(records: Records) -> list[Task]:
    return list(
        dict.fromkeys(
            (r["head"], r["data"]) for entry in records.entries.values() for r in entry.results
        )
    )
