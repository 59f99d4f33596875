"""`docs/results.md` put together from the records, the statements and the notes."""

from __future__ import annotations

from pathlib import Path

from training.results.comparison import ablations_section, claims_section, targets_section
from training.results.figures import (
    accuracy_section,
    calibration_section,
    slices_section,
    speed_section,
    variants_section,
)
from training.results.photos import framing_section, photos_section
from training.results.records import Records
from training.results.statements import Statements

NOTES = Path(__file__).with_name("notes.md")


def page(records: Records, statements: Statements, notes: Path = NOTES) -> str:
    """The page as Markdown; the same records give the same text."""
    sections = [
        [
            "# Results",
            "",
            "Written by `python -m training results`; do not edit. Every figure is read from a "
            "record beside its model, of the very file that the card names; a record of an older "
            "file counts as missing.",
        ],
        accuracy_section(records),
        targets_section(records, statements.targets),
        claims_section(records, statements.claims),
        [notes.read_text().rstrip()],
        ablations_section(records, statements.ablations),
        speed_section(records),
        variants_section(records),
        calibration_section(records),
        photos_section(records),
        framing_section(records),
        slices_section(records),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"
