"""A file made elsewhere -> `models/<name>`: graph, parity, card, figures and README."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.explain import explain_sha256
from export.foreign.calibration import fit_calibration
from export.foreign.errors import FormatError, WishError
from export.foreign.graph import Foreign, fit
from export.foreign.keras_file import load_keras_file
from export.foreign.readme import write_readme
from export.foreign.saved_model import SAVED_MODEL_FILE, load_saved_model
from export.foreign.source import Source
from export.foreign.temperature import insert_temperatures
from export.foreign.wish import Wish
from export.verify import BATCHES, MAX_ERROR, ParityError, noise, read_metrics
from service.card import CARD_FILE, MODEL_FILE, HeadSpec, ModelCard, Parity
from service.types import Head
from training.batches import whole_crops
from training.calibrate import Calibration
from training.datasets import Samples
from training.evaluate import evaluate, open_session, open_subject, run
from training.publish import KERAS_FILE
from training.recipe import recipe_path

LIMITS = (
    "Made elsewhere: what it learnt from is as its source says, and its figures are those that "
    "were measured here, if any.",
    "A guess from one picture of a face: not for any decision about a person.",
)
PLAIN_LIMIT = "How sure it is of {head} is the network's own word: no temperature was fitted."
CALIBRATION_LIMIT = (
    "Temperature and threshold of {head} were fitted on the images that its figures are of. Over "
    "five folds, each at the temperature of the others, its ECE is {ece:.1%}. If the model learnt "
    "from these images, it is surer than it should be."
)
EMOTION_LIMIT = "Not for emotion recognition at work or in education (EU AI Act, Art. 5(1)(f))."


def open_source(path: Path, weights: Path | None = None) -> Source:
    """Load a file or folder made elsewhere, told apart by content.

    Raises:
        ConversionError: it cannot be taken; the message names what is at fault.
    """
    if not path.exists():
        raise FormatError(f"there is no {path}")
    if not path.is_dir():
        return load_keras_file(path, weights)
    if not (path / SAVED_MODEL_FILE).exists():
        raise FormatError(f"{path} is a folder without {SAVED_MODEL_FILE}: no SavedModel")
    return load_saved_model(path)


def adopt(source: Source, wish: Wish, models: Path, validation: Mapping[str, Samples]) -> ModelCard:
    """Write a served model folder of a model made elsewhere.

    Args:
        source: the model.
        wish: labels, preprocessing and words for the card.
        models: where model folders are.
        validation: dataset -> samples to calibrate and measure it on; may be empty.

    Raises:
        ConversionError: the wish does not fit the model, or it cannot be served.
        UnsupportedOp: ONNX does not have an op of the model.
        ParityError: the graph does not compute what the model computes.
    """
    folder = models / wish.name
    if folder.exists():
        raise WishError(f"{folder} is there already: remove it, or choose another name")
    if recipe_path(wish.name).exists():
        raise WishError(f"{wish.name!r} is the name of a recipe: choose another")
    foreign = fit(source, wish)
    models.mkdir(parents=True, exist_ok=True)
    # Beside the others, but deeper than the service looks: a half-made model is never served.
    with tempfile.TemporaryDirectory(dir=models, prefix=".") as place:
        made = Path(place) / wish.name
        made.mkdir()
        card = _fill(made, foreign, validation)
        made.rename(folder)
    return card


def _fill(folder: Path, foreign: Foreign, validation: Mapping[str, Samples]) -> ModelCard:
    found = fit_calibration(foreign, foreign.write(folder), validation)
    temperatures = {head: calibration.temperature for head, calibration in found.items()}
    insert_temperatures(folder / MODEL_FILE, temperatures)
    card = _card(foreign, folder, found, _parity(foreign, folder, temperatures, validation))
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n")
    if validation:
        evaluate(open_subject(folder), validation)
        card = card.model_copy(update={"metrics": read_metrics(folder, card.sha256)})
        (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n")
    if foreign.model.save is not None:
        foreign.model.save(folder / KERAS_FILE)
    write_readme(card, foreign, folder)
    return card


def _parity(
    foreign: Foreign,
    folder: Path,
    temperatures: Mapping[Head, float],
    validation: Mapping[str, Samples],
) -> Parity:
    session = open_session(folder / MODEL_FILE)
    batches = [noise(foreign.input, count) for count in BATCHES]
    for samples in validation.values():
        crops = whole_crops(samples, foreign.input)
        batches += [crops[start : start + 256] for start in range(0, len(crops), 256)]
    worst = 0.0
    for crops in batches:
        expected, actual = foreign.reference(crops, temperatures), run(session, crops)
        worst = max(worst, *(float(np.abs(expected[h] - actual[h]).max()) for h in expected))
    if worst > MAX_ERROR:
        raise ParityError(f"{foreign.name}: outputs differ by {worst:.2e}, allowed {MAX_ERROR:.0e}")
    return Parity(max_abs_error=worst, samples=sum(map(len, batches)))


def _card(
    foreign: Foreign, folder: Path, found: Mapping[Head, Calibration], parity: Parity
) -> ModelCard:
    wish = foreign.wish
    return ModelCard(
        name=wish.name,
        version=wish.version,
        summary=foreign.summary,
        source=wish.source,
        parameters=foreign.model.parameters,
        input=foreign.input,
        heads={head: _head(labels, found.get(head)) for head, labels in foreign.labels.items()},
        sha256=hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest(),
        explain_sha256=explain_sha256(folder),
        licence=wish.licence,
        data=wish.data,
        metrics=(),
        parity=parity,
        limits=_limits(foreign, found),
    )


def _head(labels: tuple[str, ...], found: Calibration | None) -> HeadSpec:
    if found is None:
        return HeadSpec(labels=labels)
    return HeadSpec(
        labels=labels, temperature=found.temperature, uncertain_below=found.uncertain_below
    )


def _limits(foreign: Foreign, found: Mapping[Head, Calibration]) -> tuple[str, ...]:
    sure = (
        CALIBRATION_LIMIT.format(head=head, ece=found[head].ece)
        if head in found
        else PLAIN_LIMIT.format(head=head)
        for head in foreign.labels
    )
    emotion = (EMOTION_LIMIT,) if "emotion" in foreign.labels else ()
    return (*LIMITS, *sure, *emotion)
