"""The README of a model made elsewhere."""

from __future__ import annotations

from pathlib import Path

from export.foreign.graph import Foreign
from export.readme import figures_section, input_section, limits_section, write_sections
from service.card import ModelCard


def write_readme(card: ModelCard, foreign: Foreign, folder: Path) -> None:
    """Write `folder/README.md`: where the model comes from, what was put around it, figures."""
    sections = [
        _what(card, foreign),
        input_section(card),
        _around(foreign),
        figures_section(card, folder),
        limits_section(card),
    ]
    write_sections(folder, sections)


def _what(card: ModelCard, foreign: Foreign) -> list[str]:
    kept = "`model.keras` is the network as it came, saved again."
    lost = "There is no `model.keras`: the network came as a graph."
    no_gradient = (
        "There is no `explain.onnx`: an operation of the graph has no rule for its gradient. "
        "Occlusion explains the model."
    )
    return [
        f"# {card.id}",
        "",
        "Written by `python -m export convert --from`; do not edit.",
        "",
        f"{card.summary}.",
        "",
        f"- Source: {card.source}",
        f"- Came as: {foreign.model.origin}",
        f"- Parameters: {card.parameters:,}",
        f"- Licence: {card.licence}",
        f"- `model.onnx` sha256: `{card.sha256}`",
        f"- Largest difference to the model that came: {card.parity.max_abs_error:.1e} "
        f"over {card.parity.samples} crops",
        "",
        kept if foreign.model.save else lost,
        "",
        *([] if card.explain_sha256 else [no_gradient, ""]),
        *[line for note in foreign.wish.notes for line in (note, "")],
    ]


def _around(foreign: Foreign) -> list[str]:
    wanted, statistics = foreign.wish.input, foreign.wish.input.statistics
    lines = [
        "## What was put around it",
        "",
        f"- Colour: {wanted.color}; pixels become (x - {_text(statistics.mean)}) / "
        f"{_text(statistics.std)}.",
    ]
    for head, labels in foreign.wish.labels.items():
        gives = foreign.answers[head]
        softmax = "; softmax is added" if gives == "logits" else ""
        lines.append(f"- {head}: the network gives {gives} of {', '.join(labels)}{softmax}.")
    return [*lines, ""]


def _text(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
