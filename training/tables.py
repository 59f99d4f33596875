"""The record of an evaluation as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from training.metrics import AVERAGED

EVALUATION_FILE = "evaluation.json"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    head, *body = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return [head, "|---" * len(header) + "|", *body]


def summary(record: Mapping[str, Any]) -> list[str]:
    """Lines of one table, a row for each head and set."""
    header = ["head", "data, split", "images", "accuracy", "macro F1", "weighted F1", "ECE"]
    return table(
        [*header, "uncertain", "right else"],
        (
            [
                r["head"],
                f"{r['data']}, {r['split']}",
                str(r["samples"]),
                f"{r['accuracy']:.1%}",
                f"{r['macro_f1']:.3f}",
                f"{r['weighted_f1']:.3f}",
                f"{r['ece']:.3f}",
                f"{r['uncertain_share']:.1%}",
                "-" if r["certain_accuracy"] is None else f"{r['certain_accuracy']:.1%}",
            ]
            for r in record["results"]
        ),
    )


def page(record: Mapping[str, Any], picture: str) -> str:
    """The whole record: summary, then each head and set by class, by slice and over folds.

    Args:
        record: what `training.evaluate.evaluate` gives.
        picture: address of the PNG of confusion and reliability.
    """
    lines = [
        f"# Evaluation of {record['model']}",
        "",
        f"`model.onnx` sha256 `{record['sha256']}`, run by the service's own session, crops and "
        "postprocessing.",
        "",
        *summary(record),
        "",
        f"![Confusion and reliability]({picture})",
    ]
    for result in record["results"]:
        lines += ["", f"## {result['head']} on {result['data']} ({result['split']})", ""]
        lines += [*_left_out(result), *_classes(result), "", *_confusion(result)]
        lines += [*_slices(result), *_folds(result)]
    return "\n".join(lines) + "\n"


def _left_out(result: Mapping[str, Any]) -> list[str]:
    if not result["left_out"]:
        return []
    return [f"{result['left_out']} images have a label that the model does not know.", ""]


def _classes(result: Mapping[str, Any]) -> list[str]:
    averages = {
        f"{kind} average": {name: result[f"{kind}_{name}"] for name in AVERAGED}
        | {"support": result["samples"]}
        for kind in ("macro", "weighted")
    }
    return table(
        ["class", "precision", "recall", "F1", "support"],
        (
            [name, *(f"{figures[key]:.3f}" for key in AVERAGED), str(figures["support"])]
            for name, figures in (result["classes"] | averages).items()
        ),
    )


def _confusion(result: Mapping[str, Any]) -> list[str]:
    names = list(result["classes"])
    pairs = zip(names, result["confusion"], strict=True)
    rows = table(["", *names], ([name, *map(str, row)] for name, row in pairs))
    return ["Rows are labels, columns are answers.", "", *rows]


def _slices(result: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            f"{attribute}: {value}",
            f"{figures['samples']}",
            f"{figures['accuracy']:.1%}",
            f"{figures['weighted_f1']:.3f}",
            f"{figures['ece']:.3f}",
        ]
        for attribute, values in result["slices"].items()
        for value, figures in values.items()
    ]
    header = ["slice", "images", "accuracy", "weighted F1", "ECE"]
    return ["", *table(header, rows)] if rows else []


def _folds(result: Mapping[str, Any]) -> list[str]:
    if "folds" not in result:
        return []
    figures = result["folds"]["figures"]
    return [
        "",
        f"Over {result['folds']['count']} folds of this part, by photo group (the spread of the "
        "figures of this one model; no model was trained for a fold):",
        "",
        *table(
            ["figure", "mean", "standard deviation"],
            (
                [name.replace("_", " "), f"{values['mean']:.4f}", f"{values['deviation']:.4f}"]
                for name, values in figures.items()
            ),
        ),
    ]
