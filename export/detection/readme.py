"""A detector's card for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.readme import limits_section, write_sections
from service.card import DetectorCard
from training.detection.recipe import DetectorRecipe
from training.photos import MIN_FACE_PX


def write_readme(
    card: DetectorCard, recipe: DetectorRecipe, data: str, figures: Sequence[str], folder: Path
) -> None:
    """Write `folder/README.md`: what the detector is, its data, figures and limits.

    Args:
        card: with its figures.
        recipe: that it was trained by.
        data: name of the set.
        figures: lines of `training.detection.evaluate.table`.
        folder: of the model.
    """
    write_sections(
        folder,
        [
            _what(card),
            _input(card),
            ["## Data", "", *_data(card), ""],
            _training(card, recipe, data),
            _figures(card, data, figures),
            limits_section(card),
        ],
    )


def _what(card: DetectorCard) -> list[str]:
    return [
        f"# {card.id}",
        "",
        "Written by `python -m export detector`; do not edit.",
        "",
        card.summary,
        "",
        f"- Source: {card.source}",
        f"- Parameters: {card.parameters:,}",
        f"- Licence: {card.licence}",
        f"- `model.onnx` sha256: `{card.sha256}`",
        f"- Largest difference to `model.keras`: {card.parity.max_abs_error:.1e} in the cells of "
        f"{card.parity.samples} pictures",
        "",
    ]


def _input(card: DetectorCard) -> list[str]:
    return [
        "## Input and output",
        "",
        "`image`: uint8 (N, H, W, 3), BGR, H and W multiples of 32. `cells`: float32 (N, A, 15); "
        "`service/vision/cells.py` says what each number means, and decodes them. "
        f"A find of a score of {card.threshold} or more is taken for a face: the highest F0.5 on "
        f"the faces of {MIN_FACE_PX:.0f} px and more of the tune part.",
        "",
    ]


def _data(card: DetectorCard) -> list[str]:
    rows = [f"| {d.name} | {d.terms} | {d.used_for} |" for d in card.data]
    return ["| set | terms | used for |", "|---|---|---|", *rows]


def _training(card: DetectorCard, recipe: DetectorRecipe, data: str) -> list[str]:
    faces = " --utkface PATH --all-age-faces PATH --yunet FILE" if recipe.crops else ""
    return [
        "## Training",
        "",
        f"`training/detection/recipes/{card.name}.toml`: {recipe.training.epochs} epochs. To train "
        "and publish again:",
        "",
        f"    python -m training train-detector PATH/{data} --recipe {card.name}{faces}",
        f"    python -m export detector runs/{card.name}/model.keras PATH/{data} "
        f"--recipe {card.name} --yunet FILE",
        "",
    ]


def _figures(card: DetectorCard, data: str, figures: Sequence[str]) -> list[str]:
    processor = card.times[0].processor
    return [
        "## Figures",
        "",
        "Of the committed `model.onnx` as it is served, on the validation scenes, a split by "
        f"group; time of one thread on {processor}. In `drawn`, faces that only another detector "
        "found are neither wanted nor false. `enlarged`: small images are, as for ours. Repeat "
        "with",
        "",
        f"    python -m training evaluate {card.name} PATH/{data} --yunet FILE",
        "",
        *figures,
        "",
    ]
