"""Sections of the page that hold our figures against claims, targets and ablations."""

from __future__ import annotations

from training.results.records import Records
from training.results.statements import Ablation, Claim, Measured, Target
from training.tables import table

MISSING = "not there yet"
_SHARES = ("accuracy", "ece", "uncertain_share", "certain_accuracy")


def claims_section(records: Records, claims: tuple[Claim, ...]) -> list[str]:
    """What each paper says, and ours."""
    rows = [
        [
            f"`{claim.paper}`, {claim.where}",
            f'"{claim.says}"',
            "<br>".join(_ours(records, measured) for measured in claim.ours),
            claim.remark,
        ]
        for claim in claims
    ]
    return [
        "## The papers' claims",
        "",
        *table(["where", "the paper says", "ours", "remark"], rows),
    ]


def _ours(records: Records, measured: Measured) -> str:
    value = records.figure(measured.model, measured.figure, measured.head, measured.data)
    return f"{_what(measured)}: {formatted(measured.figure, value)}"


def targets_section(records: Records, targets: tuple[Target, ...]) -> list[str]:
    """Our own targets: met, missed, or not measured yet."""
    rows = []
    for target in targets:
        value = records.figure(target.model, target.figure, target.head, target.data)
        bound = f">= {formatted(target.figure, target.at_least)}"
        if target.at_most is not None:
            bound = f"<= {formatted(target.figure, target.at_most)}"
        verdict = "-" if value is None else "met" if target.is_met(value) else "**missed**"
        ours = formatted(target.figure, value)
        if value is not None and verdict != "met" and bound.endswith(ours):
            ours = f"{value:.2%}"  # 94.99 % would read as 95.0 %
        rows.append([_what(target), bound, ours, verdict])
    return ["## Targets", "", *table(["figure", "target", "ours", ""], rows)]


def ablations_section(records: Records, ablations: tuple[Ablation, ...]) -> list[str]:
    """A table for each ablation: every head and set that a variant was measured on."""
    lines = ["## Ablations"]
    for ablation in ablations:
        entries = {v.model: records.entries.get(v.model) for v in ablation.variants}
        tasks = dict.fromkeys(
            (r["head"], r["data"]) for entry in entries.values() if entry for r in entry.results
        )
        rows = []
        for variant in ablation.variants:
            entry = entries[variant.model]
            size = f"{entry.card.parameters:,}" if entry else MISSING
            cells = [
                formatted("accuracy", entry.figure("accuracy", *task) if entry else None)
                for task in tasks
            ]
            rows.append([variant.what, variant.model, variant.theirs, size, *cells])
        header = ["variant", "model", "the paper's", "parameters"]
        header += [f"{head}, {data}" for head, data in tasks]
        lines += ["", f"### {ablation.title}", "", f"After {ablation.where}.", ""]
        lines += table(header, rows)
    return lines


def formatted(figure: str, value: float | None) -> str:
    """A figure as text, in its unit."""
    if value is None:
        return MISSING
    if figure in _SHARES:
        return f"{value:.1%}"
    if figure == "bytes":
        return f"{value / 1e6:.2f} MB"
    if figure.startswith("ms"):
        return f"{value:.2f} ms"
    return f"{value:,}" if figure == "parameters" else f"{value:.3f}"


def _what(measured: Measured) -> str:
    of = f", {measured.head} on {measured.data}" if measured.head else ""
    return f"`{measured.model}`{of}, {measured.figure.replace('_', ' ')}"
