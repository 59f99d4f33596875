"""What a person says of a model made elsewhere, since its file does not: labels, preprocessing."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
)

from export.foreign.errors import WishError
from service.card import Dataset, Framing
from service.types import AGE_BANDS, EMOTIONS, GENDERS, Head

OURS: Mapping[Head, tuple[str, ...]] = {"emotion": EMOTIONS, "gender": GENDERS, "age": AGE_BANDS}

RANGES = {"0..255": (0.0, 1.0), "0..1": (0.0, 255.0), "-1..1": (127.5, 127.5)}
"""Scaling by name: mean and deviation that make it of a pixel."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Statistics(_Part):
    """Scaling by numbers of the training set: (pixel - mean) / std, pixels in 0..255.

    One number for all channels, or one for each in the order in which the model takes them.
    """

    mean: tuple[float, ...] = Field(min_length=1, max_length=3)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, max_length=3)


def _form(scaling: Any) -> str:
    return "name" if isinstance(scaling, str) else "numbers"


class Preprocessing(_Part):
    """What the model expects of a crop."""

    color: Literal["gray", "rgb", "bgr"]
    scaling: Annotated[
        Annotated[Literal["0..255", "0..1", "-1..1"], Tag("name")]
        | Annotated[Statistics, Tag("numbers")],
        # Without it, what is wrong with the numbers is told as that they are no name.
        Discriminator(_form),
    ]
    framing: Framing
    """Required: a published gender model gives 57 % with one framing and 84 % with another."""

    @property
    def statistics(self) -> Statistics:
        """The scaling as numbers."""
        if isinstance(self.scaling, Statistics):
            return self.scaling
        mean, std = RANGES[self.scaling]
        return Statistics(mean=(mean,), std=(std,))


class Wish(_Part):
    """The small card: a TOML file, or flags, or flags over a file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "1.0.0"
    summary: str = ""
    source: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    notes: tuple[str, ...] = ()
    data: tuple[Dataset, ...] = ()
    labels: dict[Head, tuple[str, ...]] = Field(min_length=1)
    """Head -> labels in the order of the model's output; heads in the order of its outputs."""
    output: Literal["probabilities", "logits"] | None = None
    """Seen from the answers to noise where it is not said."""
    input: Preprocessing

    @field_validator("labels")
    @classmethod
    def _ours(cls, labels: dict[Head, tuple[str, ...]]) -> dict[Head, tuple[str, ...]]:
        for head, names in labels.items():
            if strange := [name for name in names if name not in OURS[head]]:
                raise ValueError(
                    f"{head} has no label {strange[0]!r}; there are {', '.join(OURS[head])}"
                )
            if len(set(names)) < max(len(names), 2):
                raise ValueError(f"{head} needs two labels or more, each once")
        return labels


def read_wish(path: Path | None, flags: Mapping[str, Any]) -> Wish:
    """Put a card file and flags together; a flag goes before the file.

    Args:
        path: TOML, or None for flags alone.
        flags: fields of `Wish`; those that are None or empty were not given.

    Raises:
        WishError: the file cannot be read, or a field is missing or wrong: the first, by name.
    """
    try:
        fields = tomllib.loads(path.read_text()) if path else {}
        return Wish.model_validate(_over(fields, flags))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WishError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise WishError(f"{path or 'the flags'}: {where}: {reason}") from error


def _over(fields: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(fields)
    for key, value in flags.items():
        if isinstance(value, Mapping):
            below = result.get(key)
            merged = _over(below if isinstance(below, Mapping) else {}, value)
            if merged:
                result[key] = merged
        elif value not in (None, [], ()):
            result[key] = value
    return result
