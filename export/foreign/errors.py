"""Why a file that was made elsewhere cannot be served.

ConversionError
├── FormatError    the file is none that is taken, or it is damaged
├── LayerRefused   a layer that is no data: custom, unknown, or holding code
├── GraphRefused   a SavedModel with an op that reaches out of it
├── ShapeRefused   what the model takes or gives does not fit a served model
└── WishError      labels or preprocessing are missing, or do not fit the model
"""

from __future__ import annotations


class ConversionError(Exception):
    """Base of every reason."""


class FormatError(ConversionError):
    """The file is none that is taken, or it is damaged."""


class LayerRefused(ConversionError):
    """A layer that is no data.

    Attributes:
        layer: its name in the file.
        kind: its class.
    """

    def __init__(self, layer: str, kind: str, reason: str) -> None:
        super().__init__(f"layer {layer!r} of class {kind}: {reason}")
        self.layer, self.kind = layer, kind


class GraphRefused(ConversionError):
    """A SavedModel with an op that reaches out of it.

    Attributes:
        op: its kind.
        place: function and node that hold it.
    """

    def __init__(self, op: str, place: str) -> None:
        super().__init__(
            f"op {op} at {place!r} reads, writes or runs something outside the graph: a SavedModel "
            "is a program, and this one is not run"
        )
        self.op, self.place = op, place


class ShapeRefused(ConversionError):
    """What the model takes or gives does not fit a served model."""


class WishError(ConversionError):
    """Labels or preprocessing are missing, or do not fit the model."""
