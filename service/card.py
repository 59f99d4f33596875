"""The model card: what a served model is, takes and gives, and must not be used for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from service.errors import CardInvalid
from service.types import Head

CARD_FILE = "card.json"
MODEL_FILE = "model.onnx"
EXPLAIN_FILE = "explain.onnx"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Framing(_Part):
    """Which square around a face a model sees, in units of the tight box's side (`Box.side`)."""

    scale: float = Field(default=1.0, gt=0, le=4)
    """Side of the square over the side of the tight box."""
    shift_y: float = Field(default=0.0, ge=-1, le=1)
    """Centre of the square below the centre of the tight box, over its side."""


class InputSpec(_Part):
    """The crop that the graph takes: uint8 (N, size, size, channels)."""

    name: str = "image"
    size: int = Field(ge=16, le=512)
    color: Literal["gray", "rgb"]
    framing: Framing

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.color == "gray" else 3


class HeadSpec(_Part):
    """One output of the graph: float32 (N, len(labels)) probabilities under the head's name."""

    labels: tuple[str, ...] = Field(min_length=2)
    temperature: float = Field(default=1.0, gt=0)
    """What the logits are divided by inside the graph (Guo et al. 2017); information only."""
    uncertain_below: float = Field(default=0.0, ge=0, le=1)
    """A top probability under this is reported as uncertain."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels):
            raise ValueError("a label stands there twice")
        return labels


class Dataset(_Part):
    """A set that the weights saw, and its terms."""

    name: str
    terms: str
    used_for: str


class Metric(_Part):
    """One measured figure: a number without its data and split means nothing."""

    head: Head
    name: str
    value: float
    data: str
    split: str
    samples: int = Field(gt=0)


class DetectionMetric(_Part):
    """One measured figure of a detector, over the faces of one range of sizes."""

    name: Literal["ap", "recall"]
    """Average precision at IoU 0.5, or recall at one false face in 100 images."""
    value: float = Field(ge=0, le=1)
    size_px: str
    """Range of the side of a face in pixels: `<16`, `16-32`, ..., or `all`."""
    data: str
    split: str
    samples: int = Field(gt=0)


class DetectionTime(_Part):
    """Median time of a detection on the CPU, letterbox to faces."""

    ms: float = Field(gt=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    threads: int = Field(gt=0)
    processor: str


class Parity(_Part):
    """ONNX against Keras on the same input."""

    max_abs_error: float = Field(ge=0)
    samples: int = Field(gt=0)


class Card(_Part):
    """What every card in `models/<name>/card.json` says."""

    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    summary: str
    source: str
    """Paper and section that the network comes from."""
    parameters: int = Field(gt=0)
    sha256: Sha256
    licence: str
    data: tuple[Dataset, ...]
    parity: Parity
    limits: tuple[str, ...]
    """What the model must not be used for, and where it is known to fail."""

    @property
    def id(self) -> str:
        """`name@version`, as results name it."""
        return f"{self.name}@{self.version}"


class ModelCard(Card):
    """Of a model that looks at one face; field names are part of the contract."""

    task: Literal["attributes"] = "attributes"
    variant_of: Name | None = None
    """The model beside it that this one computes in fewer bits; it is explained by that one."""
    variant_of_sha256: Sha256 | None = None
    """Of the file that it was made of: beside another it would answer as the old weights do."""
    input: InputSpec
    heads: dict[Head, HeadSpec] = Field(min_length=1)
    explain_sha256: Sha256 | None = None
    """Of `explain.onnx`; None where the gradient of an op of the model is not known."""
    metrics: tuple[Metric, ...]

    @model_validator(mode="after")
    def _variant_of_what(self) -> ModelCard:
        if (self.variant_of is None) != (self.variant_of_sha256 is None):
            raise ValueError("variant_of and variant_of_sha256 go together")
        return self


class DetectorCard(Card):
    """Of a model that finds faces.

    Its graph takes `image`, uint8 (N, H, W, 3) BGR, sides multiples of 32, and gives `cells`,
    float32 (N, A, 15), as `service.vision.cells` reads them.
    """

    task: Literal["detection"]
    threshold: float = Field(gt=0, lt=1)
    """Score from which a find is taken for a face, unless a caller says otherwise."""
    metrics: tuple[DetectionMetric, ...]
    times: tuple[DetectionTime, ...]


AnyCard = TypeVar("AnyCard", bound=Card)


def load_card(folder: Path) -> ModelCard:
    """Read and check `folder/card.json`.

    Raises:
        CardInvalid: there is no card, it is not JSON, a field is wrong, or its name is not the
            folder's.
    """
    return _load(folder, ModelCard)


def load_detector_card(folder: Path) -> DetectorCard:
    """Read and check `folder/card.json` of a detector.

    Raises:
        CardInvalid: as `load_card`.
    """
    return _load(folder, DetectorCard)


def find_models(folder: Path) -> list[str]:
    """Names of the models for faces in a folder of model folders; detectors are passed over."""
    paths = sorted(folder.glob(f"*/{CARD_FILE}"))
    return [path.parent.name for path in paths if not _is_detectors(path)]


def _is_detectors(path: Path) -> bool:
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # Whoever loads it is told what is wrong with it.
    return isinstance(card, dict) and card.get("task") == "detection"


def _load(folder: Path, kind: type[AnyCard]) -> AnyCard:
    path = folder / CARD_FILE
    try:
        card = kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CardInvalid(f"model {folder.name!r} has no readable {CARD_FILE}") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        place = f"card field {where}" if where else CARD_FILE
        raise CardInvalid(f"model {folder.name!r}: {place}: {first['msg']}") from error
    if card.name != folder.name:
        raise CardInvalid(f"model folder {folder.name!r} holds a card named {card.name!r}")
    return card
