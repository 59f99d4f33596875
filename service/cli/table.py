"""Results for people."""

from __future__ import annotations

from rich.table import Table

from service.cli.console import escaped, out
from service.cli.records import Record
from service.types import HEADS, AnalyzedFace


def print_table(record: Record) -> None:
    """Print a row for each face."""
    title = escaped(record.title)
    if record.time_s is not None:
        title += f" at {record.time_s:.2f} s"
    if not record.result.faces:
        out.print(f"{title}: no face")
        return
    size = f"{record.result.width}x{record.result.height}"
    tracks = record.tracks
    table = Table("face", *HEADS, title=f"{title} ({size})")
    for index, face in enumerate(record.result.faces):
        table.add_row(f"#{tracks[index]} {_where(face)}" if tracks else _where(face), *_said(face))
    out.print(table)


def _where(analyzed: AnalyzedFace) -> str:
    box = analyzed.face.box
    return f"{box.width:.0f}x{box.height:.0f} at {box.x:.0f},{box.y:.0f}"


def _said(analyzed: AnalyzedFace) -> list[str]:
    said = [analyzed.predictions.get(head) for head in HEADS]
    return [f"{p.label}{'?' if p.uncertain else ''} {p.probability:.0%}" if p else "" for p in said]
