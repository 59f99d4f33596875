"""The `mien` command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, NoReturn

import cv2
import typer
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

import service
from service.api.schemas import to_json
from service.build import default_options, image_limits, open_analyzer
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer
from service.errors import MienError
from service.settings import Settings, load_settings
from service.types import HEADS, AnalyzedFace, Result
from service.vision.annotate import annotate
from service.vision.codec import decode

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Faces in images: emotion, gender and age band.",
)
# Plain text: a photo may be called `[/b].jpg`.
out = Console(markup=False, emoji=False, highlight=False)
err = Console(markup=False, emoji=False, highlight=False, stderr=True, soft_wrap=True)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def serve(context: typer.Context) -> None:
    """Run the service; `mien serve --help` lists every setting as a flag."""
    # Imported here: no other command needs a server.
    from service.api.app import create_app
    from service.api.server import run
    from service.api.telemetry import configure_logging

    settings = _settings(context.args)
    configure_logging(settings.log_level)
    try:
        application = create_app(settings)
    except MienError as error:
        _quit(str(error))
    run(application, settings)


@app.command()
def analyze(
    photos: Annotated[list[Path], typer.Argument(help="Image files.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    annotate_dir: Annotated[
        Path | None,
        typer.Option("--annotate", help="Write pictures with the faces drawn into this folder."),
    ] = None,
) -> None:
    """Analyse photos in this process; the exit status is 1 if any of them failed."""
    failed = asyncio.run(_analyze(_settings(), photos, json=json, annotate_dir=annotate_dir))
    raise typer.Exit(1 if failed else 0)


@app.command()
def models() -> None:
    """List the models that would be served."""
    analyzer = _open(_settings())
    table = Table("model", "heads", "default for", "input", "parameters", "provider")
    for name, model in analyzer.models.items():
        card = model.card
        default = [head for head, chosen in analyzer.default_heads.items() if chosen.name == name]
        table.add_row(
            card.id,
            ", ".join(card.heads),
            ", ".join(default),
            f"{card.input.size}x{card.input.size} {card.input.color}",
            f"{card.parameters:,}",
            model.provider,
        )
    out.print(table)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(service.__version__)


async def _analyze(
    settings: Settings, photos: Sequence[Path], *, json: bool, annotate_dir: Path | None
) -> int:
    """Analyse photo by photo, going on after a bad one; gives how many failed."""
    failed = 0
    targets = _targets(photos, annotate_dir) if annotate_dir is not None else {}
    async with _started(settings) as analyzer:
        for photo in photos:
            try:
                data = photo.read_bytes()
                result = await analyzer.analyze(data, default_options(settings))
                _report(photo, result, json=json)
                if photo in targets:
                    _write_annotated(data, result, targets[photo], settings)
            except BrokenPipeError:
                raise  # nobody reads on, as behind `| head`; that is no photo's fault
            except (MienError, OSError) as error:
                failed += 1
                err.print(f"{_shown(photo)}: {error}", style="red")
    return failed


def _targets(photos: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each photo's drawing goes: a stem's second gets a number, no photo is overwritten."""
    taken = {os.path.realpath(photo) for photo in photos}
    targets: dict[Path, Path] = {}
    for photo in dict.fromkeys(photos):
        names = (f"{photo.stem}{'' if n == 1 else f'-{n}'}.png" for n in count(1))
        targets[photo] = next(
            path for name in names if os.path.realpath(path := folder / name) not in taken
        )
        taken.add(os.path.realpath(targets[photo]))
    return targets


@asynccontextmanager
async def _started(settings: Settings) -> AsyncIterator[Analyzer]:
    analyzer = _open(settings)
    try:
        await analyzer.start()
    except MienError as error:
        _quit(str(error))
    try:
        yield analyzer
    finally:
        await analyzer.close(drain_s=settings.drain_timeout_s)


def _report(photo: Path, result: Result, *, json: bool) -> None:
    if json:
        answer = to_json(result, request_id=_shown(photo), landmarks=True)
        typer.echo(answer.model_dump_json(exclude_unset=True))
        return
    table = Table("face", *HEADS, title=f"{_shown(photo)} ({result.width}x{result.height})")
    for face in result.faces:
        table.add_row(*_cells(face))
    out.print(table if result.faces else f"{_shown(photo)}: no face")


def _cells(analyzed: AnalyzedFace) -> list[str]:
    box = analyzed.face.box
    where = f"{box.width:.0f}x{box.height:.0f} at {box.x:.0f},{box.y:.0f}"
    said = [analyzed.predictions.get(head) for head in HEADS]
    return [
        where,
        *(f"{p.label}{'?' if p.uncertain else ''} {p.probability:.0%}" if p else "" for p in said),
    ]


def _shown(path: Path) -> str:
    """A name that terminal and JSON can take: one that is no UTF-8 has replacement characters."""
    return os.fsencode(path).decode(errors="replace")


def _write_annotated(data: bytes, result: Result, path: Path, settings: Settings) -> None:
    image = decode(data, image_limits(settings))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by `imwrite`: on Windows it takes no name beyond the code page.
    path.write_bytes(cv2.imencode(".png", annotate(image.pixels, result.faces))[1].tobytes())
    err.print(f"wrote {_shown(path)}")


def _open(settings: Settings) -> Analyzer:
    try:
        return open_analyzer(settings, Metrics(CollectorRegistry()))
    except MienError as error:
        _quit(str(error))


def _settings(flags: Sequence[str] | None = None) -> Settings:
    try:
        return load_settings(flags)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        _quit(f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except ValueError as error:
        _quit(str(error))


def _quit(message: str) -> NoReturn:
    err.print(f"mien: {message}", style="red")
    raise typer.Exit(2)
