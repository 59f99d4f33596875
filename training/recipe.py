"""A recipe: everything that decides a model, in one TOML file, the card's hand-written part too."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.card import Dataset, InputSpec
from service.types import Head
from training.errors import WorkError

FOLDER = Path(__file__).parent / "recipes"
Plan = TypeVar("Plan", bound=BaseModel)


class RecipeError(WorkError):
    """A recipe that is not there, or does not hold together; names the file and what is wrong."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Augment(_Part):
    """How far a training crop may stray from its framing, and its light from the photo's."""

    scale: float = Field(default=0.12, ge=0, lt=1)
    """Largest relative change of the crop's side."""
    shift: float = Field(default=0.08, ge=0)
    """Largest shift along each axis, over the side of the crop."""
    rotation_deg: float = Field(default=12.0, ge=0)
    contrast: float = Field(default=0.25, ge=0, lt=1)
    brightness: float = Field(default=30.0, ge=0)
    """Largest shift of all pixels, of 255."""
    erase: float = Field(default=0.2, ge=0, le=1)
    """Share of crops that lose a patch."""
    blur: float = Field(default=0.15, ge=0, le=1)
    """Share of crops that are reduced and enlarged again, as small faces are."""
    gray: float = Field(default=0.0, ge=0, le=1)
    """Share of colour crops that lose their colour."""


class Training(_Part):
    """Schedule: warm-up, hold, then a cosine fall to zero over the last part of the epochs."""

    epochs: int = Field(ge=0)
    """At most; 0 where nothing is trained, as in an ensemble."""
    per_batch: dict[str, int] = Field(min_length=1)
    """Dataset -> images of it in each batch; an epoch is one pass over the first one."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_epochs: float = Field(default=1.0, ge=0)
    fall_share: float = Field(default=0.5, gt=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    average: float = Field(default=0.998, ge=0, lt=1)
    """Momentum per step of the averaged weights, the ones that are kept."""
    patience: int | None = Field(default=None, gt=0)
    """Early stopping: so many epochs without a lower loss on the tune parts end the run, and the
    averaged weights of the epoch of least loss are kept. Without it, the last ones are."""
    precision: Literal["float32", "mixed_bfloat16"] = "mixed_bfloat16"
    """Of the steps; what is kept is float32. In float32, TensorFlow 2.21's oneDNN kernels corrupt
    the heap when mini-Xception trains (seen on Zen 4); TF_ENABLE_ONEDNN_OPTS=0 avoids it."""
    seed: int = 0
    augment: Augment = Augment()


class Distillation(_Part):
    """Published models whose answers stand in for a share of each target."""

    teachers: tuple[str, ...] = Field(min_length=1)
    share: float = Field(gt=0, le=1)
    unlabelled: float = Field(default=0.0, ge=0, le=1)
    """Weight of the images of a set that does not label a head: they learn the answers alone."""


class Recipe(_Part):
    """One model: its network, data, schedule, and what its card says."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    summary: str
    source: str
    licence: str
    limits: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a reader of the model's README should know of the run that made the weights."""
    data: tuple[Dataset, ...]
    input: InputSpec
    labels: dict[Head, tuple[str, ...]]
    network: Literal[
        "mini_xception",
        "guided_fusion",
        "vgg",
        "mien",
        "sequential_fcn",
        "four_layer",
        "joint_cnn",
        "sequential_cnn",
        "ensemble",
    ]
    network_options: dict[str, Any] = {}
    members: tuple[str, ...] = ()
    """Of an ensemble: published models that see the same crops and know the same labels."""
    mirror: bool = False
    """Answer with the mean over the crop and its mirror image: twice the work, fewer errors."""
    distillation: Distillation | None = None
    training: Training


def load_recipe(name: str | Path) -> Recipe:
    """Read the recipe of this name below `recipes/`, or any TOML file by its path.

    `extends = "OTHER"` in it takes over what the other recipe says: tables are merged key by key,
    anything else that both say is replaced.

    Raises:
        RecipeError: no such recipe, or a field is missing, unknown or out of its range.
    """
    return checked(Recipe, _read(name), name)


def recipe_path(name: str) -> Path:
    """Where the recipe of this name is, or would be."""
    there = {path.stem: path for path in FOLDER.rglob("*.toml")}
    return there.get(name, FOLDER / f"{name}.toml")


def read_fields(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        RecipeError: there is none, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise RecipeError(f"there is no recipe {path}") from error
    except ValueError as error:
        raise RecipeError(f"{path} is no TOML: {error}") from error


def checked(kind: type[Plan], fields: dict[str, Any], name: str | Path) -> Plan:
    """The fields as a recipe of a kind.

    Raises:
        RecipeError: the first field that is missing, unknown or out of its range.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"recipe {name}: {where}: {first['msg']}") from error


def _read(name: str | Path) -> dict[str, Any]:
    path = Path(name)
    if path.suffix != ".toml":
        path = recipe_path(str(name))
    fields = read_fields(path)
    base = fields.pop("extends", None)
    return fields if base is None else _merged(_read(base), fields)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value)
        for key, value in changes.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | changes | both
