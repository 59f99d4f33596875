"""The flags of `python -m export convert --from`: the small card, said on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

Labels = Annotated[
    list[str],
    typer.Option(help="HEAD=LABEL,LABEL,... in the order of the output; heads in that of outputs"),
]
Color = Annotated[str | None, typer.Option(help="gray, rgb or bgr: what the network takes")]
Scaling = Annotated[str | None, typer.Option(help="0..1, -1..1 or 0..255: what the network takes")]
Mean = Annotated[str | None, typer.Option(help="with --std, in place of --scaling: of 0..255")]
Std = Annotated[
    str | None, typer.Option(help="one number, or one for each channel: 58.4,57.1,57.4")
]
Scale = Annotated[float | None, typer.Option(help="side of the crop over that of the face box")]
ShiftY = Annotated[float | None, typer.Option(help="crop below the face box, over its side")]
Output = Annotated[str | None, typer.Option(help="probabilities or logits; else it is seen")]
Source = Annotated[str | None, typer.Option(help="paper or project that the model comes from")]
Licence = Annotated[str | None, typer.Option(help="of its weights")]
Notes = Annotated[list[str], typer.Option("--note", help="a line for its README")]


def as_fields(
    labels: Sequence[str],
    scaling: str | None,
    statistics: tuple[str | None, str | None],
    framing: tuple[float | None, float | None],
) -> dict[str, Any]:
    """Flags with parts of their own as fields of `export.foreign.wish.Wish`.

    Args:
        labels: `HEAD=LABEL,LABEL`.
        scaling: by name.
        statistics: mean and deviation, numbers with commas.
        framing: scale and shift_y.

    Raises:
        typer.BadParameter: a flag is not in its form.
    """
    mean, std = statistics
    if (mean is None) != (std is None) or (scaling and mean):
        raise typer.BadParameter("give --scaling, or --mean and --std together")
    return {
        "labels": dict(_head(item) for item in labels),
        "input": {
            "scaling": scaling if mean is None else {"mean": _numbers(mean), "std": _numbers(std)},
            "framing": {"scale": framing[0], "shift_y": framing[1]},
        },
    }


def _head(item: str) -> tuple[str, list[str]]:
    head, sign, names = item.partition("=")
    if not sign:
        raise typer.BadParameter(f"--labels {item!r} is not HEAD=LABEL,LABEL,...")
    return head, [name.strip() for name in names.split(",")]


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(number) for number in (text or "").split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a number, nor numbers with commas") from error
