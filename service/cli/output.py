"""A results file that a later run goes on with: nothing stands in it twice, nothing is lost.

Records are appended, in the order of the inputs, under absolute paths: a later run may begin in
another folder. A file beside, named `FILE.unfinished`, tells of videos that are not whole in it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from service.card import HeadSpec
from service.cli import parquet
from service.cli.formats import Csv, Format, JsonLines, OutputError
from service.cli.inputs import Input, key_of
from service.cli.lock import only_run
from service.cli.records import Record, columns
from service.types import Head

SUFFIXES = (".jsonl", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Partial:
    """A video of which not every frame stands in the file."""

    offset: int
    """Where its records began, in bytes."""
    every: int
    whole: bool
    """It can only be done as a whole: tracks, or a drawn video, do not go on."""
    fault: str | None = None
    """Why frames are missing; None while it is in work, and where the run ended then."""

    def goes_on(self, *, every: int, whole: bool) -> bool:
        """Whether what is written is what would be."""
        return self.every == every and not self.whole and not whole


_PARTIALS = TypeAdapter(dict[str, Partial])


class Output:
    """The file."""

    def __init__(self, path: Path, form: Format, mark: Path) -> None:
        """Open or make it, and see what was done.

        Args:
            path: the file.
            form: how records are written.
            mark: the file beside it.

        Raises:
            OutputError: it holds something else.
            OSError: it cannot be written.
        """
        self._form = form
        self._path = path
        self._mark = mark
        self._partial = self._read_mark()
        self._frames: dict[str, set[int]] = {key: set() for key in self._partial}
        self._done: dict[str, int | None] = {}
        self._file = path.open("r+b" if path.exists() else "w+b")
        try:
            self._go_on()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def unfinished(self) -> str | None:
        """The key of the video that was in work when a run ended; its records end the file."""
        return next((key for key, each in self._partial.items() if each.fault is None), None)

    def is_done(self, source: Input) -> bool:
        """Whether nothing is left to do; a live source is never done."""
        key = source.key
        return source.kind != "live" and key in self._done and key not in self._partial

    def frames_done(self, source: Input, *, every: int, whole: bool) -> Collection[int]:
        """The frames that need not be done again; of a live source the last.

        Raises:
            OutputError: the frames that stand there can neither be gone on with nor be replaced.
        """
        if source.kind == "live":
            last = self._done.get(source.key)
            return () if last is None else (last,)
        partial = self._partial.get(source.key)
        if partial is None:
            return ()
        if partial.goes_on(every=every, whole=whole):
            return self._frames[source.key]
        if partial.fault is not None:
            raise OutputError(
                f"in an earlier run {partial.fault}; with --tracks, --annotate or another --every "
                "that cannot be made up for: name another file"
            )
        return ()

    def write(self, record: Record) -> None:
        """Append a record; it is in the file afterwards, whatever becomes of this process."""
        self._file.write(self._form.encode(replace(record, source=key_of(record.source))))
        self._file.flush()

    def begin(self, source: Input, *, every: int, whole: bool) -> None:
        """Begin with a video; what was written of it goes, unless it goes on from there."""
        partial = self._partial.get(source.key)
        if partial is not None:
            if partial.goes_on(every=every, whole=whole):
                return
            self._file.truncate(partial.offset)
            self._file.seek(partial.offset)
        self._partial[source.key] = Partial(self._file.tell(), every, whole)
        self._write_mark()

    def end(self, source: Input, fault: str | None = None) -> None:
        """The video is done, or as far as it can be."""
        partial = self._partial.pop(source.key)
        if fault is not None:
            self._partial[source.key] = replace(partial, fault=fault)
        self._write_mark()

    def _go_on(self) -> None:
        head = self._file.read(len(self._form.head))
        if head != self._form.head:
            # A head that was cut off has nothing after it.
            if not self._form.head.startswith(head):
                raise OutputError(f"{self._path} has other columns; name another file")
            self._file.seek(0)
            self._file.write(self._form.head)
        try:
            end, last = self._scan()
        except OutputError as error:
            raise OutputError(f"{self._path}: {error}; name another file") from error
        self._file.truncate(end)
        self._file.seek(end)
        self._check_mark(last)

    def _scan(self) -> tuple[int, tuple[str, int]]:
        """See what is done; gives where it ends, and the last source and where its part begins."""
        end = len(self._form.head)
        last = ("", end)
        for written in self._form.scan(self._file):
            if written.source != last[0]:
                last = (written.source, end)
            self._done[written.source] = written.frame
            if written.frame is not None and written.source in self._frames:
                self._frames[written.source].add(written.frame)
            end = written.end
        return end, last

    def _check_mark(self, last: tuple[str, int]) -> None:
        """Leave out what does not fit the file, as where it was removed and its mark was not."""
        stand = {key: each for key, each in self._partial.items() if key in self._done}
        for key, each in stand.items():
            if each.fault is None and (key, each.offset) != last:
                # Nothing may be cut off there.
                stand[key] = replace(each, fault="it was cut off")
        if stand != self._partial:
            self._partial = stand
            self._write_mark()

    def _read_mark(self) -> dict[str, Partial]:
        try:
            return _PARTIALS.validate_json(self._mark.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            raise OutputError(
                f"{self._mark} cannot be read; remove it, or name another file"
            ) from error

    def _write_mark(self) -> None:
        if not self._partial:
            self._mark.unlink(missing_ok=True)
            return
        part = self._mark.with_name(f"{self._mark.name}.part")
        part.write_bytes(_PARTIALS.dump_json(self._partial))
        os.replace(part, self._mark)


@contextmanager
def open_output(path: Path, heads: Mapping[Head, HeadSpec]) -> Iterator[Output]:
    """Open a results file for a block.

    Args:
        path: its suffix, one of `SUFFIXES`, says in which form.
        heads: what is answered, for the columns of a table.

    Raises:
        OutputError: it holds something else, or another run is at it.
        OSError: it cannot be written.
    """
    path = path.resolve()  # two names of one file are one file
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = path.with_name(f"{path.name}.unfinished")
    with only_run(path):
        if path.suffix == ".parquet":
            with _open_parquet(path, heads, mark) as output:
                yield output
        else:
            form = JsonLines() if path.suffix == ".jsonl" else Csv(columns(heads))
            with closing(Output(path, form, mark)) as output:
                yield output


@contextmanager
def _open_parquet(path: Path, heads: Mapping[Head, HeadSpec], mark: Path) -> Iterator[Output]:
    """Nothing can be appended to a Parquet file: it is made of a table that grows beside it."""
    form = Csv(columns(heads))
    table = path.with_name(f"{path.name}.unfinished.csv")
    if path.exists() and not table.exists():
        parquet.to_csv(path, table, form)
    output = Output(table, form, mark)
    try:
        yield output
    finally:
        output.close()
        parquet.from_csv(table, path, columns(heads))
        if output.unfinished is None:
            table.unlink()
