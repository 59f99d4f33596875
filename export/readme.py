"""The model card for people, written from the same facts as `card.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from service.card import Card, ModelCard
from training.evaluate import EVALUATION_FILE
from training.recipe import FOLDER, Recipe, recipe_path
from training.tables import summary

README_FILE = "README.md"
_FLAGS = {"fer2013": "PATH/fer2013.csv", "utkface": "PATH/utkface", "all_age_faces": "PATH/aaf"}


def write_readme(card: ModelCard, recipe: Recipe, folder: Path) -> None:
    """Write `folder/README.md`: what the model is, its data, figures and limits."""
    sections = [
        _what(card),
        input_section(card),
        _data(card),
        _training(recipe),
        figures_section(card, folder),
        limits_section(card),
    ]
    write_sections(folder, sections)


def write_sections(folder: Path, sections: Iterable[Sequence[str]]) -> None:
    """Write `folder/README.md` of sections of lines, each with an empty one at its end."""
    (folder / README_FILE).write_text("\n".join("\n".join(section) for section in sections) + "\n")


def _what(card: ModelCard) -> list[str]:
    return [
        f"# {card.id}",
        "",
        "Written by `python -m export verify`; do not edit.",
        "",
        f"{card.summary}.",
        "",
        f"- Source: {card.source}",
        f"- Parameters: {card.parameters:,}",
        f"- Licence: {card.licence}",
        f"- `model.onnx` sha256: `{card.sha256}`",
        f"- Largest difference to `model.keras`: {card.parity.max_abs_error:.1e} "
        f"over {card.parity.samples} crops",
        "",
    ]


def input_section(card: ModelCard) -> list[str]:
    """Lines on what the graph takes and gives."""
    spec, shape = card.input, f"(N, {card.input.size}, {card.input.size}, {card.input.channels})"
    lines = [
        "## Input and output",
        "",
        f"`{spec.name}`: uint8 {shape}, {spec.color}. The crop is a square of {spec.framing.scale} "
        "times the side of the tight face box, its centre "
        f"{spec.framing.shift_y} sides below the centre of the box. Whole face photos framed as in "
        "the training sets work too.",
        "",
        "| output | labels | temperature | uncertain below |",
        "|---|---|---|---|",
    ]
    for head, out in card.heads.items():
        labels = ", ".join(out.labels)
        lines.append(f"| {head} | {labels} | {out.temperature} | {out.uncertain_below} |")
    return [*lines, ""]


def _data(card: ModelCard) -> list[str]:
    lines = ["## Data", "", "| set | terms | used for |", "|---|---|---|"]
    lines += [f"| {d.name} | {d.terms} | {d.used_for} |" for d in card.data]
    return [
        *lines,
        "",
        "FER2013: a seeded twentieth of the Training rows (the tune part) chooses between runs, "
        "the rest is learnt; PublicTest is the validation part. UTKFace and All-Age-Faces: 85 % "
        "training, 5 % tune, 10 % validation by a hash of the photo group (near copies and equal "
        "date stamps are one group). Validation parts are measured, and give temperature and "
        "threshold; `calibration.json` holds the hash of every part, and how both do on folds that "
        "they were not fitted on.",
        "",
    ]


def _training(recipe: Recipe) -> list[str]:
    sets = recipe.training.per_batch
    flags = " ".join(f"--{name.replace('_', '-')} {_FLAGS[name]}" for name in sets)
    return [
        "## Training",
        "",
        f"`{recipe_path(recipe.name).relative_to(FOLDER.parents[1])}`: {_schedule(recipe)}",
        "",
        *([] if recipe.members else [f"    python -m training train {recipe.name} {flags}"]),
        f"    python -m training publish {recipe.name} {flags}",
        f"    python -m export convert {recipe.name}",
        "",
        "then evaluate as below, and `python -m export verify` with the same `--data`.",
        "",
        *[line for note in recipe.notes for line in (note, "")],
    ]


def _schedule(recipe: Recipe) -> str:
    if recipe.members:
        return (
            f"the mean of {' and '.join(recipe.members)} as they are published; "
            "`calibration.json` holds their hashes. To make it again:"
        )
    plan = recipe.training
    most = f"at most {plan.epochs}" if plan.patience else f"{plan.epochs}"
    return f"{most} epochs over {next(iter(plan.per_batch))}. To train and publish again:"


def figures_section(card: ModelCard, folder: Path) -> list[str]:
    """Lines on what was measured, from `evaluation.json`; none without it."""
    path = folder / EVALUATION_FILE
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    sets = dict.fromkeys(result["data"] for result in record["results"])
    flags = " ".join(f"--data {name}={_FLAGS.get(name, 'PATH')}" for name in sets)
    return [
        "## Figures",
        "",
        "Of the committed `model.onnx`, on whole dataset images (All-Age-Faces: cropped by the "
        "framing above). Classes and confusion: `evaluation.md`. Repeat with",
        "",
        f"    python -m training evaluate {card.name} {flags}",
        "",
        *summary(record),
        "",
    ]


def limits_section(card: Card) -> list[str]:
    """Lines on what the model must not be used for."""
    return [
        "## Limits, and what it must not be used for",
        "",
        *[f"- {text}" for text in card.limits],
    ]
