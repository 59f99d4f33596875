"""A SavedModel folder: a graph, of which the function that is meant for serving is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.foreign.errors import FormatError, GraphRefused, ShapeRefused
from export.foreign.source import Source

SAVED_MODEL_FILE = "saved_model.pb"
SIGNATURE = "serving_default"

# Ops with effects that a model has: its variables and calls, and how it is saved and restored.
_OWN = (
    *("VarHandleOp", "ReadVariableOp", "VarIsInitializedOp", "DisableCopyOnRead"),
    *("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "DestroyResourceOp"),
    *("PartitionedCall", "StatefulPartitionedCall", "If", "While", "Assert"),
    *("RandomUniform", "RandomUniformInt", "RandomStandardNormal"),
    *("SaveV2", "RestoreV2", "MergeV2Checkpoints"),
)
_OUTWARD = ("ReadFile", "MatchingFiles")  # TensorFlow does not call these stateful


def load_saved_model(folder: Path) -> Source:
    """Load a SavedModel for its signature `serving_default`, or its only one.

    Raises:
        FormatError: the folder is damaged.
        GraphRefused: an op reaches out of the graph.
        ShapeRefused: no signature to choose, or not one input.
    """
    import tensorflow as tf

    _screen(folder)
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises whatever its file system does.
        raise FormatError(f"{folder} is no readable SavedModel: {error}") from error
    function = _signature(loaded.signatures)
    (inputs,) = function.structured_input_signature[1:]
    if len(inputs) != 1:
        raise ShapeRefused(f"the model has {len(inputs)} inputs, {', '.join(inputs)}; it needs one")
    ((name, spec),) = inputs.items()
    outputs = sorted(function.structured_outputs)
    kept = function, loaded  # its variables go with what was loaded

    def call(pictures: Any) -> list[Any]:
        answers = kept[0](**{name: tf.cast(pictures, spec.dtype)})
        return [tf.cast(answers[output], tf.float32) for output in outputs]

    return Source(
        call=call,
        shape=_shape(spec),
        outputs={output: _shape(function.structured_outputs[output]) for output in outputs},
        parameters=sum(int(np.prod(value.shape)) for value in function.variables),
        origin=f"SavedModel, read by TensorFlow {tf.__version__}",
    )


def _signature(signatures: Any) -> Any:
    if SIGNATURE in signatures:
        return signatures[SIGNATURE]
    if len(signatures) != 1:
        others = f"but {', '.join(signatures)}" if signatures else "nor any other"
        raise ShapeRefused(f"the SavedModel has no signature {SIGNATURE}, {others}")
    return next(iter(signatures.values()))


def _shape(spec: Any) -> tuple[int | None, ...]:
    return () if spec.shape.rank is None else tuple(spec.shape)


def _screen(folder: Path) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / SAVED_MODEL_FILE).read_bytes())
    except (OSError, DecodeError) as error:
        raise FormatError(f"{folder / SAVED_MODEL_FILE} is damaged: {error}") from error
    if not model.meta_graphs:  # bytes that happen to be a message
        raise FormatError(f"{folder / SAVED_MODEL_FILE} is damaged: it holds no graph")
    for place, op in _ops(model):
        known = op_def_registry.get(op)
        reaching = known is None or known.is_stateful or op in _OUTWARD
        if reaching and op not in _OWN:
            raise GraphRefused(op, place)


def _ops(model: Any) -> Iterator[tuple[str, str]]:
    for part in model.meta_graphs:
        own = {function.signature.name for function in part.graph_def.library.function}
        for node in part.graph_def.node:
            yield node.name, node.op
        for function in part.graph_def.library.function:
            for node in function.node_def:
                if node.op not in own:  # a call by the function's name
                    yield f"{function.signature.name}/{node.name}", node.op
