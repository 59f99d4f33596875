"""Reads the structure in a Keras file before Keras does: what is no data is refused by name.

Keras 3 keeps its safe mode for its own files. tf-keras 2.21 does not for HDF5 and JSON
(keras-team/tf-keras#910, #917): it would unmarshal the code of a Lambda layer, and import
whatever module a configuration names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from export.foreign.errors import LayerRefused

MODELS = ("Sequential", "Functional", "Model")
_LAYER_KEYS = ("layer", "forward_layer", "backward_layer")
_CODE = "it holds Python code, which is not run; write it with layers of Keras and save again"
_REFUSED = {
    "Lambda": _CODE,
    "TFSMLayer": "it runs another file",
    "JaxLayer": _CODE,
    "FlaxLayer": _CODE,
    "TorchModuleWrapper": _CODE,
    "StringLookup": "it reads another file",
    "IntegerLookup": "it reads another file",
    "TextVectorization": "it reads another file",
}
_OPS = ("TFOpLambda", "SlicingOpLambda")
_PURE = ("math.", "nn.", "__operators__.")
_PURE_NAMES = ("cast", "clip_by_value", "concat", "expand_dims", "reshape", "squeeze", "transpose")


def screen(config: Mapping[str, Any], layers: Any) -> None:
    """Let only models pass that are data: layers of Keras, joined.

    Args:
        config: the model's structure as its file has it: `class_name`, `config`.
        layers: the module whose classes are known: `keras.layers` or `tf_keras.layers`.

    Raises:
        LayerRefused: the first layer that is not, by name.
    """
    for place, name, part in _parts(config, "model", _name(config, "model")):
        kind = str(part.get("class_name"))
        if kind in _REFUSED:
            raise LayerRefused(name, kind, _REFUSED[kind])
        if kind in _OPS:
            _check_op(name, kind, part)
        elif place in ("layer", "model") and not _known(place, part, layers):
            reason = "Keras has none such; the file holds no code of custom layers"
            raise LayerRefused(name, kind, f"{reason}: write it with layers of Keras")
        if kind in ("function", "__lambda__") or not _of_keras(part.get("module")):
            raise LayerRefused(name, kind, f"it names code outside Keras: {part.get('config')!r}")


def _parts(value: Any, place: str, name: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    # Everything with a class in the structure: where it stands, and the layer that it belongs to.
    if isinstance(value, Mapping):
        if "class_name" in value:
            yield place, name, value
        for key, part in value.items():
            # Keras 2.0 wrote the layers of a Sequential model as its configuration itself.
            if key in ("layers", "config") and isinstance(part, list):
                for layer in part:
                    yield from _parts(layer, "layer", _name(layer, name))
            elif key != "compile_config":  # not read: models are loaded for inference
                inner = "layer" if key in _LAYER_KEYS else "part"
                yield from _parts(part, inner, _name(part, name) if inner == "layer" else name)
    elif isinstance(value, list):
        for part in value:
            yield from _parts(part, "part", name)


def _name(layer: Any, otherwise: str) -> str:
    if not isinstance(layer, Mapping):
        return otherwise
    config = layer.get("config")
    inner = config.get("name") if isinstance(config, Mapping) else None
    return str(layer.get("name") or inner or otherwise)


def _known(place: str, part: Mapping[str, Any], layers: Any) -> bool:
    kind = str(part.get("class_name"))
    if part.get("registered_name") not in (None, kind):
        return False
    if kind in MODELS:
        return True
    if place == "model":
        return False
    # Keras 3 saves functions of `keras.ops` as nodes beside the layers.
    if str(part.get("module")).startswith(("keras.src.ops.", "keras.ops")):
        return True
    # TensorFlow 2 wrote BatchNormalizationV1 where it stood in for TensorFlow 1.
    return isinstance(getattr(layers, kind.removesuffix("V1"), None), type)


def _check_op(name: str, kind: str, part: Mapping[str, Any]) -> None:
    config = part.get("config")
    function = str(config.get("function")) if isinstance(config, Mapping) else "unknown"
    if not function.startswith(_PURE) and function not in _PURE_NAMES:
        raise LayerRefused(name, kind, f"the function tf.{function} is not taken")


def _of_keras(module: Any) -> bool:
    # Keras 2 names none.
    return module is None or str(module).split(".")[0] in ("keras", "tf_keras")
