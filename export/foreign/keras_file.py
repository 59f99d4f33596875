"""Keras files: `.keras`, HDF5, and JSON with HDF5, of Keras 3 and of the Keras before it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.foreign.errors import FormatError, LayerRefused, ShapeRefused
from export.foreign.screen import screen
from export.foreign.source import Source


@dataclass(frozen=True, slots=True)
class Structure:
    """What a file says of a model before anything of it is made.

    Attributes:
        config: `class_name` and `config`.
        version: of the Keras that wrote it; `2.?` where it does not say.
        kind: of file, for people.
    """

    config: Mapping[str, Any]
    version: str
    kind: str

    @property
    def old(self) -> bool:
        """From before Keras 3: tf-keras reads it."""
        return int(self.version.partition(".")[0]) < 3


def load_keras_file(path: Path, weights: Path | None = None) -> Source:
    """Load a Keras model; no code of the file is run.

    Args:
        path: `.keras`, HDF5 or JSON, told apart by content.
        weights: HDF5; for JSON.

    Raises:
        FormatError: the file is none of them, damaged, or without its other half.
        LayerRefused: a layer that is no data.
        ShapeRefused: the model does not say what it takes, or takes several things.
    """
    structure, is_json = read_structure(path)
    if is_json and weights is None:
        raise FormatError(f"{path} has no weights in it; name their HDF5 file with --weights")
    if weights is not None and not is_json:
        raise FormatError(f"{path} has its weights in it; --weights goes with a JSON structure")
    library = _library(structure)
    screen(structure.config, library.layers)
    try:
        if weights is None:
            model = library.models.load_model(path, compile=False)
        else:
            model = library.models.model_from_json(path.read_text())
            model.load_weights(weights)
    except Exception as error:  # Keras lets through whatever its layers raise.
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"{weights or path} cannot be loaded: {reason}") from error
    return _source(model, structure, library)


def read_structure(path: Path) -> tuple[Structure, bool]:
    """What the file says of its model, and whether it is JSON.

    Raises:
        FormatError: it says nothing that can be read.
    """
    try:
        readers = (read for is_kind, read in _READERS if is_kind(path))
        read = next(readers, _of_json)
        structure = read(path)
    except FormatError:
        raise
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"{path} is no .keras, HDF5 or JSON file of Keras that can be read: {error}"
        ) from error
    if not structure.version.partition(".")[0].isdecimal():
        raise FormatError(f"{path} says that Keras {structure.version!r} wrote it: no version")
    return structure, read is _of_json


def _of_archive(path: Path) -> Structure:
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json"))
    return Structure(config, str(metadata["keras_version"]), ".keras file")


def _of_hdf5(path: Path) -> Structure:
    import h5py

    with h5py.File(path) as file:
        config = file.attrs.get("model_config")
        if config is None:
            raise FormatError(
                f"{path} holds weights alone; give the structure as a JSON file, and this one "
                "with --weights"
            )
        version = file.attrs.get("keras_version", "2.?")
    return Structure(json.loads(config), _text(version), "HDF5 file")


def _of_json(path: Path) -> Structure:
    config = json.loads(path.read_text())
    if not isinstance(config, dict) or "class_name" not in config:
        raise FormatError(f"{path} is JSON, but no structure of a Keras model")
    # Keras 3 does not sign its JSON; the Keras before it does, and has no module there.
    version = config.get("keras_version", "3.?" if "module" in config else "2.?")
    return Structure(config, str(version), "JSON and HDF5 files")


def _is_hdf5(path: Path) -> bool:
    import h5py

    return bool(h5py.is_hdf5(path))


_READERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Structure]], ...] = (
    (zipfile.is_zipfile, _of_archive),
    (_is_hdf5, _of_hdf5),
)


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _library(structure: Structure) -> Any:
    if structure.old:
        import tf_keras

        return tf_keras
    import keras

    return keras


def _source(model: Any, structure: Structure, library: Any) -> Source:
    import tensorflow as tf

    if not model.built or not model.inputs:
        raise ShapeRefused("the model does not say what it takes: give it an input layer")
    if len(model.inputs) != 1:
        raise ShapeRefused(f"the model has {len(model.inputs)} inputs; it needs one")
    for layer in _layers(model):
        if str(layer.compute_dtype) in ("float16", "bfloat16"):
            raise LayerRefused(
                layer.name,
                type(layer).__name__,
                f"it computes in {layer.compute_dtype}, which no graph repeats to 1e-4; load the "
                "model with the dtype policy float32 and save it again",
            )
    # A Sequential model of Keras 3 has no `input` before it is called, and no `output_names`.
    inputs = getattr(model, "input", model.inputs[0])
    names = getattr(model, "output_names", [model.layers[-1].name])

    def call(pictures: Any) -> list[Any]:
        # Keras wants its input in the structure that it was saved in, as [x] for x.
        given = tf.nest.map_structure(lambda _: pictures, inputs)
        answers = tf.nest.flatten(model(given, training=False))
        return [tf.cast(answer, tf.float32) for answer in answers]

    name = "Keras" if library.__name__ == "keras" else "tf-keras"
    return Source(
        call=call,
        shape=tuple(model.inputs[0].shape),
        outputs=dict(zip(names, (tuple(o.shape) for o in model.outputs), strict=True)),
        parameters=int(model.count_params()),
        origin=f"{structure.kind} of Keras {structure.version}, read by {name} "
        f"{library.__version__}",
        save=model.save,
    )
