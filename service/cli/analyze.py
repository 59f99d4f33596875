"""`mien analyze`: what was asked for -> a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import typer

from service.build import image_limits
from service.cli import parquet
from service.cli.console import complain, err, out, quit_with
from service.cli.drawings import VIDEO_SUFFIX, targets
from service.cli.engine import Engine, Gone, local_engine, remote_engine
from service.cli.formats import OutputError
from service.cli.frames import expected_frames
from service.cli.inputs import Input, expand, is_media
from service.cli.output import SUFFIXES, Output, open_output
from service.cli.progress import bar
from service.cli.records import Record, to_line
from service.cli.run import Run, RunOptions
from service.cli.table import print_table
from service.errors import MienError
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Wish:
    """The command line."""

    arguments: Sequence[str]
    json: bool
    out: Path | None
    annotate: Path | None
    every: int
    tracks: bool
    server: str | None
    api_key: str | None
    jobs: int | None


def run(wish: Wish, settings: Settings) -> int:
    """Do what was asked for; gives the exit status."""
    if wish.out is not None:
        _check_out(wish.out)
    try:
        return _expand_and_run(wish, settings)
    except KeyboardInterrupt:
        complain("interrupted" + ("; the same command goes on" if wish.out else ""))
        return 130
    except OutputError as error:
        quit_with(str(error), 1)


def _expand_and_run(wish: Wish, settings: Settings) -> int:
    inputs, faults = expand(wish.arguments, without=[p for p in (wish.annotate, wish.out) if p])
    for fault in faults:
        complain(fault)
    drawings = _drawings(inputs, wish.annotate)
    failed = asyncio.run(_run(wish, settings, inputs, drawings)) if inputs else 0
    return 1 if failed or faults else 0


def _check_out(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        quit_with(f"--out {path} must end in one of {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        try:
            parquet.require()
        except OutputError as error:
            quit_with(str(error))


def _drawings(inputs: Sequence[Input], annotate: Path | None) -> dict[str, Path]:
    """Where each input's drawing goes."""
    if annotate is None or not inputs:
        return {}
    if annotate.is_dir() or annotate.suffix.lower() != VIDEO_SUFFIX:
        if not annotate.is_dir() and (annotate.exists() or is_media(annotate)):
            quit_with(f"--annotate {annotate} must be a folder, or an .mp4 for one video")
        _make_folder(annotate)
        return targets(inputs, annotate)
    if len(inputs) != 1 or inputs[0].kind == "photo":
        quit_with(f"--annotate {annotate} takes one video; name a folder for more, or for photos")
    if annotate.exists() and inputs[0].kind == "video" and annotate.samefile(inputs[0].path):
        quit_with(f"--annotate {annotate} would write over its own video")
    _make_folder(annotate.parent)
    return {inputs[0].key: annotate}


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        quit_with(str(error))


async def _run(
    wish: Wish, settings: Settings, inputs: Sequence[Input], drawings: dict[str, Path]
) -> int:
    async with _engine(wish, settings) as engine:
        with _output(wish.out, engine) as output:
            todo = _todo(inputs, output)
            with _reporting(wish, todo) as report:
                options = RunOptions(image_limits(settings), wish.every, wish.tracks, wish.jobs)
                work = Run(engine, options, output=output, drawings=drawings, report=report)
                started = time.perf_counter()
                await _all(work, todo)
            if wish.out is not None:
                seconds = time.perf_counter() - started
                err.print(_summary(wish.out, work, len(inputs) - len(todo), seconds))
            if wish.annotate is not None and work.analysed:
                err.print(f"drawings: {wish.annotate}")
    return work.failed


def _summary(path: Path, work: Run, before: int, seconds: float) -> str:
    rate = work.analysed / seconds
    return (
        f"{path}: {work.analysed:,} analysed ({rate:.1f}/s), {work.failed:,} failed, "
        f"{before:,} done before"
    )


async def _all(work: Run, todo: Sequence[Input]) -> None:
    try:
        await work.all(todo)
    except Gone as error:
        work.fail("mien", error)
    except BrokenPipeError:
        raise  # nobody reads on, as behind `| head`
    except OSError as error:
        work.fail("mien", error)


@asynccontextmanager
async def _engine(wish: Wish, settings: Settings) -> AsyncIterator[Engine]:
    async with AsyncExitStack() as stack:
        opened = remote_engine(wish.server, wish.api_key) if wish.server else local_engine(settings)
        try:
            engine = await stack.enter_async_context(opened)
        except MienError as error:
            quit_with(str(error))
        yield engine


@contextmanager
def _output(path: Path | None, engine: Engine) -> Iterator[Output | None]:
    if path is None:
        yield None
        return
    with ExitStack() as stack:
        try:
            output = stack.enter_context(open_output(path, engine.heads))
        except (MienError, OSError) as error:
            quit_with(str(error))
        yield output


def _todo(inputs: Sequence[Input], output: Output | None) -> list[Input]:
    """What is not done yet: first the video that was cut off, whose records end the file."""
    if output is None:
        return list(inputs)
    todo = [each for each in inputs if not output.is_done(each)]
    if output.unfinished is None:
        return todo
    if all(each.key != output.unfinished for each in todo):
        quit_with(f"{output.unfinished} is unfinished there: name it too, or another file")
    return sorted(todo, key=lambda each: each.key != output.unfinished)


@contextmanager
def _reporting(wish: Wish, todo: Sequence[Input]) -> Iterator[Callable[[Record], None]]:
    # On one terminal, results and a bar would be in each other's way.
    shows = err.is_terminal and not (out.is_terminal and (wish.json or wish.out is None))
    with bar(_expected(todo, wish.every)) if shows else nullcontext(_nothing) as advance:

        def report(record: Record) -> None:
            if wish.json:
                typer.echo(to_line(record))
            elif wish.out is None:
                print_table(record)
            advance()

        yield report


def _nothing() -> None:
    pass


def _expected(todo: Sequence[Input], every: int) -> int | None:
    """How many photos and frames there are, as far as videos say."""
    total = 0
    for each in todo:
        frames = 1 if each.kind == "photo" else expected_frames(each)
        if frames is None:
            return None
        total += frames if each.kind == "photo" else -(-frames // every)
    return total
