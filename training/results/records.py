"""What was recorded of the models: cards, evaluations, photos and times; the page's only source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.card import ModelCard, find_models, load_card, load_detector_card
from service.settings import Settings
from training.errors import WorkError
from training.photos import PHOTOS_FILE
from training.publish import CALIBRATION_FILE
from training.tables import EVALUATION_FILE

QUANTIZATION_FILE = "quantization.json"
"""What `python -m export quantize` writes beside a model."""
MAX_ECE = 0.03


class NoModels(WorkError):
    """No folder holds a model with a card."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model and its records; None where there is none of the file that its card describes."""

    card: ModelCard
    evaluation: dict[str, Any] | None
    photos: dict[str, Any] | None
    speed: dict[str, Any] | None
    quantization: dict[str, Any] | None
    calibration: dict[str, Any] | None

    @property
    def results(self) -> list[dict[str, Any]]:
        """Of the evaluation, one for each head and set."""
        return self.evaluation["results"] if self.evaluation else []

    def figure(self, name: str, head: str | None, data: str | None) -> float | None:
        """One figure: of a head on a set where they are given, else of the model; None if unknown.

        Args:
            name: as the evaluation, the speed record or the card calls it.
            head: emotion, gender or age.
            data: name of the set.
        """
        if head is None:
            known = (self.speed or {}) | {"parameters": self.card.parameters}
            return known.get(name)
        found = [r[name] for r in self.results if (r["head"], r["data"]) == (head, data)]
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Records:
    """All models by name, and how their times were taken."""

    entries: dict[str, Entry]
    speed: dict[str, Any]

    def figure(self, model: str, name: str, head: str | None, data: str | None) -> float | None:
        """See `Entry.figure`; None for a model that is not there too."""
        entry = self.entries.get(model)
        return entry.figure(name, head, data) if entry else None

    def unmeasured(self) -> list[str]:
        """The models without an evaluation."""
        return [name for name, entry in self.entries.items() if not entry.evaluation]

    def above(self, limit: float = MAX_ECE) -> list[str]:
        """Every head that is calibrated worse than `limit` on a set."""
        return [
            f"{name}: {r['head']} on {r['data']} ({r['split']}), ECE {r['ece']:.1%}"
            for name, entry in self.entries.items()
            for r in entry.results
            if r["ece"] > limit
        ]


def read_records(folders: Sequence[Path], speed: Path) -> Records:
    """Read every model with a card; a record of another file, or of other heads, is left out.

    Args:
        folders: of model folders; those that are not there are passed over.
        speed: JSON of `benchmarks.models`; it may be missing.

    Raises:
        CardInvalid: a card is not as it should be.
        NoModels: there is none.
    """
    times = _read(speed) or {"models": {}}
    entries = {}
    for path in (folder / name for folder in folders for name in find_models(folder)):
        card = load_card(path)
        entries[card.name] = Entry(
            card,
            _evaluation(card, _read(path / EVALUATION_FILE)),
            _photos(card, path, _read(path / PHOTOS_FILE)),
            _fresh(card, times["models"].get(card.name)),
            _fresh(card, _read(path / QUANTIZATION_FILE)),
            _calibration(card, _read(path / CALIBRATION_FILE)),
        )
    if not entries:
        raise NoModels(f"no model with a card in {', '.join(map(str, folders))}")
    return Records(entries, times)


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _fresh(card: ModelCard, record: dict[str, Any] | None) -> dict[str, Any] | None:
    return record if record and record["sha256"] == card.sha256 else None


def _photos(card: ModelCard, path: Path, record: dict[str, Any] | None) -> dict[str, Any] | None:
    detector = path.with_name(Settings.model_fields["detector_dir"].default.name)
    sha256 = load_detector_card(detector).sha256 if detector.is_dir() else None
    fresh = _fresh(card, record)
    return fresh if fresh and fresh["detector_sha256"] == sha256 else None


def _evaluation(card: ModelCard, record: dict[str, Any] | None) -> dict[str, Any] | None:
    fresh = _fresh(card, record)
    return fresh if fresh and all(_as_served(card, r) for r in fresh["results"]) else None


def _as_served(card: ModelCard, result: dict[str, Any]) -> bool:
    spec = card.heads.get(result["head"])
    return spec is not None and result["uncertain_below"] == spec.uncertain_below


def _calibration(card: ModelCard, record: dict[str, Any] | None) -> dict[str, Any] | None:
    on_card = {head: (spec.temperature, spec.uncertain_below) for head, spec in card.heads.items()}
    recorded = {
        head: (found["temperature"], found["uncertain_below"])
        for head, found in (record["heads"] if record else {}).items()
    }
    return record if recorded == on_card else None
