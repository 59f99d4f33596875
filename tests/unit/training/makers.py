"""Tiny datasets in the official formats, and tiny recipes and networks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.card import Framing, InputSpec
from service.types import AGE_BANDS, EMOTIONS, GENDERS
from training.recipe import Augment, Recipe, Training

VOTES_HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)


def face(seed: int, size: int = 48) -> NDArray[np.uint8]:
    """A smooth random picture: its hash differs from any other seed's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_fer2013(folder: Path, rows: list[tuple[int, int, str]]) -> Path:
    """`fer2013.csv` of (emotion, picture seed, usage)."""
    lines = ["emotion,pixels,Usage"]
    lines += [f"{e},{' '.join(map(str, face(s).ravel()))},{usage}" for e, s, usage in rows]
    path = folder / "fer2013.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_votes(folder: Path, rows: list[str]) -> Path:
    """`fer2013new.csv` of ten comma-separated votes a row."""
    lines = [VOTES_HEADER] + [f"Training,fer{i:07}.png,{row}" for i, row in enumerate(rows)]
    path = folder / "fer2013new.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_faces(folder: Path, names: dict[str, int], size: int = 56) -> Path:
    """Grey PNG pictures: name -> picture seed."""
    folder.mkdir(exist_ok=True)
    for name, seed in names.items():
        cv2.imwrite(str(folder / name), face(seed, size))
    return folder


def mini_recipe(epochs: int = 2, **training: object) -> Recipe:
    """An emotion recipe of a mini-Xception that trains in seconds."""
    return _recipe(
        name="tiny_emotion",
        network="mini_xception",
        labels={"emotion": EMOTIONS},
        input=InputSpec(size=32, color="gray", framing=Framing(scale=1.125)),
        network_options={"stem": (16, 16), "modules": (16,)},
        training=Training.model_validate(
            {"epochs": epochs, "per_batch": {"fer2013": 8}, "precision": "mixed_bfloat16"}
            | training
        ),
    )


def fusion_recipe(variant: str = "two_guides") -> Recipe:
    """The fusion network on two sets, at its real widths."""
    return _recipe(
        name="tiny_fusion",
        network="guided_fusion",
        labels={"emotion": EMOTIONS, "gender": GENDERS, "age": AGE_BANDS},
        input=InputSpec(size=48, color="gray", framing=Framing(scale=1.06, shift_y=0.06)),
        network_options={"variant": variant},
        mirror=True,
        training=Training(
            epochs=1, per_batch={"fer2013": 4, "utkface": 4}, augment=Augment(erase=1.0, blur=1.0)
        ),
    )


def tiny_recipe(network: str, **fields: object) -> Recipe:
    """An emotion recipe of another family, with a network that trains in seconds."""
    options: dict[str, dict[str, object]] = {
        "sequential_fcn": {"filters": ((16,), (16,)), "kernels": (5, 3)},
        "four_layer": {"filters": (16, 16), "hidden": 16},
        "joint_cnn": {"filters": (16, 16), "dense": (16,)},
        "sequential_cnn": {"hidden": 16},
        "vgg": {"filters": (16, 16, 32)},
        "mien": {"stem": 16, "filters": (16, 16)},
    }
    return _recipe(
        **{
            "name": f"tiny_{network}",
            "network": network,
            "labels": {"emotion": EMOTIONS},
            "input": InputSpec(size=32, color="gray", framing=Framing(scale=1.125)),
            "network_options": options.get(network, {}),
            "training": Training(epochs=1, per_batch={"fer2013": 8}),
        }
        | fields
    )


def joint_recipe(**training: object) -> Recipe:
    """The joint network on two sets, with six emotions, SGD and early stopping."""
    plan: dict[str, object] = {"epochs": 1, "per_batch": {"fer2013": 4, "utkface": 4}}
    return tiny_recipe(
        "joint_cnn",
        labels={"emotion": EMOTIONS[:6], "gender": GENDERS},
        training=Training.model_validate(plan | {"optimizer": "sgd", "patience": 2} | training),
    )


def mien_recipe() -> Recipe:
    """Our own network on two sets: in colour, with all heads."""
    return tiny_recipe(
        "mien",
        labels={"emotion": EMOTIONS, "gender": GENDERS, "age": AGE_BANDS},
        input=InputSpec(size=32, color="rgb", framing=Framing(scale=1.125)),
        training=Training(epochs=1, per_batch={"fer2013": 4, "utkface": 4}),
    )


def ensemble_recipe(*members: Recipe) -> Recipe:
    """The mean of published models of these recipes."""
    return tiny_recipe(
        "ensemble",
        members=[member.name for member in members],
        labels=members[0].labels,
        input=members[0].input,
        training=Training(epochs=0, per_batch={"fer2013": 8}),
    )


def _recipe(**fields: object) -> Recipe:
    return Recipe.model_validate(
        {
            "version": "0.1.0",
            "summary": "A test",
            "source": "none",
            "licence": "none",
            "limits": ("not for use",),
            "data": (),
        }
        | fields
    )
