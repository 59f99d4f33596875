"""What figures are held against: the papers' claims and ablations, and our own targets."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("statements.toml")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Part):
    """Where our figure for a statement stands: see `Entry.figure`."""

    model: str
    figure: str = "accuracy"
    head: str | None = None
    data: str | None = None


class Claim(_Part):
    """What a paper says, and our figures beside it."""

    paper: str
    where: str
    says: str
    """A quotation."""
    ours: tuple[Measured, ...] = ()
    remark: str
    """How far the two can be compared."""


class Target(Measured):
    """What we set ourselves: at least, or at most, so much."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a figure is good enough."""
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)


class Variant(_Part):
    """One row of an ablation: a model that lacks a part."""

    model: str
    what: str
    theirs: str = "-"


class Ablation(_Part):
    """Models that differ in one part, trained alike."""

    title: str
    where: str
    variants: tuple[Variant, ...]


class Statements(_Part):
    """The whole file."""

    claims: tuple[Claim, ...]
    targets: tuple[Target, ...]
    ablations: tuple[Ablation, ...]


def read_statements(path: Path = FILE) -> Statements:
    """Read the file.

    Raises:
        pydantic.ValidationError: a field is missing or unknown.
    """
    return Statements.model_validate(tomllib.loads(path.read_text()))
