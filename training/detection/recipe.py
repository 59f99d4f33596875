"""A detector's recipe: its network, pictures and schedule, in one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.card import Dataset
from training.detection.augment import Augment
from training.recipe import Training, checked, read_fields

FOLDER = Path(__file__).parent / "recipes"


class DetectorRecipe(BaseModel):
    """One detector; `training.per_batch` counts `detection` scenes and face `crops`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    summary: str
    source: str
    licence: str
    limits: tuple[str, ...]
    data: tuple[Dataset, ...]
    network_options: dict[str, Any] = {}
    side: int = Field(gt=0, multiple_of=32)
    """Of the square pictures it learns from, in pixels."""
    tune_side: int = Field(gt=0, multiple_of=32)
    """Of the frames that the tune scenes are measured in."""
    augment: Augment = Augment()
    training: Training

    @property
    def scenes(self) -> int:
        """Pictures in each step that begin with a scene."""
        return self.training.per_batch["detection"]

    @property
    def crops(self) -> int:
        """Pictures in each step that begin with a face crop pasted into a photo."""
        return self.training.per_batch.get("crops", 0)


def load_recipe(name: str | Path) -> DetectorRecipe:
    """Read the recipe of this name below `recipes/`, or any TOML file by its path.

    Raises:
        RecipeError: no such recipe, or a field is missing, unknown or out of its range.
    """
    path = Path(name)
    path = path if path.suffix == ".toml" else FOLDER / f"{name}.toml"
    return checked(DetectorRecipe, read_fields(path), name)
