"""A model made elsewhere, loaded and ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.foreign.errors import ShapeRefused

SIDES = (16, 512)


@dataclass(frozen=True, slots=True)
class Source:
    """A network that takes one picture and gives one output or several.

    Attributes:
        call: float32 (N, H, W, C) tensor -> list of tensors (N, K), one for each output; can be
            traced by `tf.function`.
        shape: of its input as the file says, N first; None where it is free.
        outputs: name -> shape of each output, in order.
        parameters: how many numbers it has learnt.
        origin: format and library, for people.
        save: writes it as `model.keras`; None where it is no Keras model.
    """

    call: Callable[[Any], list[Any]]
    shape: tuple[int | None, ...]
    outputs: Mapping[str, tuple[int | None, ...]]
    parameters: int
    origin: str
    save: Callable[[Path], None] | None = None

    def crop(self) -> tuple[int, int]:
        """Side and channels of the square pictures that it takes.

        Raises:
            ShapeRefused: it takes something else.
        """
        if len(self.shape) != 4:
            raise ShapeRefused(
                f"the model takes inputs of shape {_text(self.shape)}; pictures are (N, S, S, C)"
            )
        count, height, width, channels = self.shape
        if height in (1, 3) and channels not in (1, 3):
            raise ShapeRefused(
                f"the model takes {_text(self.shape)}, channels first; save it with channels last"
            )
        if channels not in (1, 3):
            raise ShapeRefused(f"the model takes {_text(self.shape)}: neither grey nor colour")
        if height is None or width is None:
            raise ShapeRefused(
                f"the model takes pictures of any size, {_text(self.shape)}; a served one has one "
                "size: give its input layer a shape and save it again"
            )
        if height != width or not SIDES[0] <= height <= SIDES[1]:
            raise ShapeRefused(
                f"the model takes {_text(self.shape)}; crops are squares of {SIDES[0]} to "
                f"{SIDES[1]} pixels"
            )
        if count is not None:
            raise ShapeRefused(
                f"the model takes {count} pictures at a time, {_text(self.shape)}; save it with a "
                "free batch size"
            )
        return height, channels


def _text(shape: tuple[int | None, ...]) -> str:
    sides = ("N" if i == 0 else "?" if side is None else str(side) for i, side in enumerate(shape))
    return f"({', '.join(sides)})"
