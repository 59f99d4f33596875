"""The README of a variant that is served."""

from __future__ import annotations

from pathlib import Path

from export.readme import figures_section, input_section, limits_section, write_sections
from export.variants.record import PAGE_FILE
from service.card import ModelCard


def write_readme(card: ModelCard, folder: Path) -> None:
    """Write `folder/README.md`: of which model it is a variant, and its own figures."""
    sections = [
        _what(card),
        input_section(card),
        figures_section(card, folder),
        limits_section(card),
    ]
    write_sections(folder, sections)


def _what(card: ModelCard) -> list[str]:
    base = f"../{card.variant_of}"
    return [
        f"# {card.id}",
        "",
        f"Written by `python -m export quantize {card.variant_of}`; do not edit.",
        "",
        f"{card.summary}.",
        "",
        f"- Training, data and terms: those of [{card.variant_of}]({base}/README.md).",
        f"- Held against it: [{PAGE_FILE}]({base}/{PAGE_FILE}).",
        f"- `model.onnx` sha256: `{card.sha256}`",
        f"- Largest difference to its probabilities: {card.parity.max_abs_error:.1e} "
        f"over {card.parity.samples} training faces",
        "",
    ]
