"""Makes the variants of a model, measures them, and keeps the one that is worth serving."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.variants.half import to_half
from export.variants.int8 import to_int8
from export.variants.readme import write_readme
from export.variants.record import (
    ALLOWED_LOSS,
    BASE,
    PAGE_FILE,
    RECORD_FILE,
    Measured,
    chosen,
    page,
    rows,
)
from export.variants.timing import ROUNDS, compare, processor
from export.verify import read_metrics
from service.card import CARD_FILE, MODEL_FILE, InputSpec, ModelCard, Parity, load_card
from service.errors import CardInvalid
from service.runtime.files import read_checked
from training.batches import whole_crops
from training.datasets import Part, Samples
from training.errors import WorkError
from training.evaluate import Subject, evaluate, open_session, run

CALIBRATION_SAMPLES = 512
"""Training faces of each set that the ranges of int8 are taken from."""
WORDS = {"int8": "computed in int8", "fp16": "computed in fp16"}


class QuantizeError(WorkError):
    """A model that no variant is made of, or too few sets to choose one by."""


def quantize(
    folder: Path,
    parts: Mapping[str, Mapping[Part, Samples]],
    rounds: Mapping[int, int] = ROUNDS,
) -> dict[str, Any]:
    """Write `quantization.json` and its page, and `<folder>_<variant>` for one that is better.

    A folder that an earlier call wrote for a variant that is not better any more is removed.

    Args:
        folder: `models/<name>`, verified.
        parts: dataset -> its parts; those that label none of the model's heads are left aside.
        rounds: faces in a run -> timed runs of each file.

    Raises:
        CardInvalid: there is no card.
        HashMismatch: the file is not the card's.
        QuantizeError: it is a variant itself, a variant's folder is taken by something else, or
            the sets are fewer than those that the model was measured on or label not every head.
    """
    card = load_card(folder)
    source = read_checked(folder / MODEL_FILE, card.sha256)
    known = {name: part for name, part in parts.items() if card.heads.keys() & part["train"].labels}
    _check_sets(card, known)
    _check_places(card, folder)
    crops = _training_crops(known, card.input)
    # Beside the others, but deeper than the service looks: an unmeasured variant is never served.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as place:
        made = _make(card.name, source, Path(place), crops)
        validation = {name: part["validation"] for name, part in known.items()}
        measured = _measure(made, card, validation, crops, rounds)
        best = chosen(measured)
        record = _record(card, best, measured, list(known))
        for old in _variants(folder):
            shutil.rmtree(old)
        if best != BASE:
            _keep(made[best], made[BASE], card, best, crops)
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
    (folder / PAGE_FILE).write_text(page(record))
    return record


def remove_stale(folder: Path, card: ModelCard) -> list[str]:
    """Remove the variants of a model that were made of another file than its card's.

    Args:
        folder: the model's.
        card: its own.

    Returns:
        Their names.
    """
    stale = [old for old in _variants(folder) if load_card(old).variant_of_sha256 != card.sha256]
    for old in stale:
        shutil.rmtree(old)
    return [old.name for old in stale]


def _check_sets(card: ModelCard, known: Mapping[str, Mapping[Part, Samples]]) -> None:
    labelled = {head for part in known.values() for head in part["train"].labels}
    if heads := [head for head in card.heads if head not in labelled]:
        raise QuantizeError(
            f"no set labels {', '.join(heads)} of {card.name}: name one with --data SET=PATH"
        )
    if missing := sorted({metric.data for metric in card.metrics} - known.keys()):
        raise QuantizeError(
            f"{card.name} was measured on {', '.join(missing)} too: name every set of its card "
            "with --data SET=PATH"
        )


def _check_places(card: ModelCard, folder: Path) -> None:
    if card.variant_of is not None:
        raise QuantizeError(f"{card.name} is a variant itself: name {card.variant_of}")
    own = _variants(folder)
    for place in (folder.with_name(f"{folder.name}_{kind}") for kind in WORDS):
        if place.exists() and place not in own:
            raise QuantizeError(f"{place} is no variant of {card.name}, whose place it takes")


def _variants(folder: Path) -> list[Path]:
    """Folders of a model's variants that are there."""
    places = (folder.with_name(f"{folder.name}_{kind}") for kind in WORDS)
    return [place for place in places if _is_variant(place, folder.name)]


def _is_variant(place: Path, name: str) -> bool:
    try:
        return load_card(place).variant_of == name
    except CardInvalid:
        return False


def _training_crops(
    parts: Mapping[str, Mapping[Part, Samples]], spec: InputSpec
) -> NDArray[np.uint8]:
    taken = []
    for part in parts.values():
        order = np.random.default_rng(0).permutation(len(part["train"]))
        taken.append(whole_crops(part["train"].take(order[:CALIBRATION_SAMPLES]), spec))
    return np.concatenate(taken)


def _make(name: str, data: bytes, place: Path, crops: NDArray[np.uint8]) -> dict[str, Path]:
    # Each file in a folder of its own, named as it would be served.
    made = {BASE: place / name}
    made |= {kind: place / f"{name}_{kind}" for kind in WORDS}
    for part in made.values():
        part.mkdir()
    source = made[BASE] / MODEL_FILE
    source.write_bytes(data)
    to_int8(source, made["int8"] / MODEL_FILE, crops)
    to_half(source, made["fp16"] / MODEL_FILE)
    return made


def _measure(
    made: Mapping[str, Path],
    card: ModelCard,
    validation: Mapping[str, Samples],
    crops: NDArray[np.uint8],
    rounds: Mapping[int, int],
) -> dict[str, Measured]:
    sessions = {kind: open_session(part / MODEL_FILE) for kind, part in made.items()}
    times = compare(sessions, crops, rounds)
    measured = {}
    for kind, part in made.items():
        results = evaluate(Subject(part, card.input, card.heads), validation)["results"]
        accuracy = {(r["head"], r["data"]): r["accuracy"] for r in results}
        size = (part / MODEL_FILE).stat().st_size
        measured[kind] = Measured(size, accuracy, times[kind])
    return measured


def _record(
    card: ModelCard, best: str, measured: Mapping[str, Measured], sets: list[str]
) -> dict[str, Any]:
    return {
        "model": card.name,
        "sha256": card.sha256,
        "cpu": processor(),
        "onnxruntime": ort.__version__,
        "threads": 1,
        "calibration": dict.fromkeys(sets, CALIBRATION_SAMPLES),
        "allowed_loss_points": ALLOWED_LOSS,
        "default": best,
        "rows": rows(measured),
    }


def _keep(variant: Path, base: Path, card: ModelCard, kind: str, crops: NDArray[np.uint8]) -> None:
    answers, expected = (run(open_session(p / MODEL_FILE), crops) for p in (variant, base))
    worst = max(float(np.abs(expected[head] - answers[head]).max()) for head in expected)
    digest = hashlib.sha256((variant / MODEL_FILE).read_bytes()).hexdigest()
    made = card.model_copy(
        update={
            "name": variant.name,
            "variant_of": card.name,
            "variant_of_sha256": card.sha256,
            "summary": f"{card.summary}; {WORDS[kind]}",
            "sha256": digest,
            "metrics": read_metrics(variant, digest),
            "parity": Parity(max_abs_error=worst, samples=len(crops)),
        }
    )
    (variant / CARD_FILE).write_text(made.model_dump_json(indent=2) + "\n")
    write_readme(made, variant)
    variant.rename(base.parent.parent / variant.name)
