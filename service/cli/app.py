"""The `mien` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

import service
from service.api.schemas import to_models_json
from service.build import open_analyzer
from service.cli import analyze, console
from service.cli.console import quit_with
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer
from service.errors import MienError
from service.settings import API_KEY, Settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Faces in images: emotion, gender and age band.",
)


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
        quit_with(str(error))
    run(application, settings)


@app.command(name="analyze")
def analyze_command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUTS...",
            help="Photos, folders, globs, videos, rtsp:// and other URLs, camera:0.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write results to a .jsonl, .csv or .parquet file; what it holds is not done "
            "again."
        ),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(help="Draw the faces: into this folder, or of one video into this .mp4."),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Of a video, each so-many-th frame.")] = 1,
    tracks: Annotated[
        bool, typer.Option("--tracks", help="Follow faces through a video and smooth answers.")
    ] = False,
    server: Annotated[
        str | None, typer.Option(help="URL of a running service that does the work.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar=API_KEY, help="For --server.", show_envvar=True)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Pictures in work at a time; 8 with --server.")
    ] = None,
) -> None:
    """Analyse photos and videos.

    The exit status is 1 if any of them failed, 130 after Ctrl-C.
    """
    wish = analyze.Wish(inputs, json, out, annotate, every, tracks, server, api_key, jobs)
    raise typer.Exit(analyze.run(wish, _settings()))


@app.command()
def models(
    json: Annotated[bool, typer.Option("--json", help="As `GET /v1/models` answers.")] = False,
) -> None:
    """List the models that would be served, and what finds the faces."""
    analyzer = _open(_settings())
    if json:
        typer.echo(to_models_json(analyzer).model_dump_json())
    else:
        _print_models(analyzer)


def _print_models(analyzer: Analyzer) -> None:
    name_column = Column("model", no_wrap=True)  # whole: it is what settings take
    heads_column = Column("heads", overflow="fold")
    # Without lines between columns it fits into 80 characters, a pipe's width.
    table = Table(name_column, heads_column, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("input", "parameters", "provider"):
        table.add_column(title, overflow="fold")
    for name, model in analyzer.models.items():
        card = model.card
        table.add_row(
            card.id,
            " ".join(
                f"{head}{'*' if analyzer.default_heads[head].name == name else ''}"
                for head in card.heads
            ),
            f"{card.input.size}x{card.input.size} {card.input.color}",
            f"{card.parameters:,}",
            model.provider,
        )
    console.out.print(table)
    console.out.print("* unless a request or a setting names another")
    console.out.print(f"detector: {analyzer.detector.id} ({analyzer.detector.provider})")


@app.command()
def version() -> None:
    """Print the version."""
    console.out.print(service.__version__)


def _open(settings: Settings) -> Analyzer:
    try:
        return open_analyzer(settings, Metrics(CollectorRegistry()))
    except MienError as error:
        quit_with(str(error))


def _settings(flags: Sequence[str] | None = None) -> Settings:
    try:
        return load_settings(flags)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        named = f"setting {'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        quit_with(named + first["msg"].removeprefix("Value error, "))
    except ValueError as error:
        quit_with(str(error))
