"""A results file that a later run goes on with: nothing stands in it twice, nothing is lost.

Records are appended, in the order of the inputs. While a video is in work a file beside, named
`FILE.unfinished`, says which, and where its records begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from service.card import HeadSpec
from service.cli import parquet
from service.cli.formats import Csv, Format, JsonLines, OutputError
from service.cli.inputs import Input, key_of
from service.cli.records import Record, columns
from service.types import Head

SUFFIXES = (".jsonl", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A video that is in work, or was when the run ended."""

    source: str
    offset: int
    """Where its records begin, in bytes."""
    every: int
    whole: bool
    """It can only be done as a whole: tracks, or a drawn video, do not go on."""


_UNFINISHED = TypeAdapter(Unfinished)


class Output:
    """The file."""

    def __init__(self, path: Path, form: Format) -> None:
        """Open or make it, and see what was done.

        Raises:
            OutputError: it holds something else.
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._form = form
        self._mark = path.with_name(f"{path.name}.unfinished")
        self._done: dict[str, int | None] = {}
        self._unfinished: Unfinished | None = None
        self._file = path.open("r+b" if path.exists() else "w+b")
        try:
            self._go_on(path)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def unfinished(self) -> str | None:
        """The video that was in work when a run ended."""
        return self._unfinished.source if self._unfinished else None

    def is_done(self, source: Input) -> bool:
        """Whether nothing is left to do; a live source is never done."""
        cut = source.name == self.unfinished
        return source.kind != "live" and not cut and source.key in self._done

    def goes_on_after(self, source: Input, *, every: int, whole: bool) -> int:
        """The number of the last frame that need not be done again; -1 for none.

        A live source counts on; a video that was cut off goes on where it ended, if what is
        written is what would be.
        """
        cut = self._unfinished
        if cut is not None and (cut.every != every or cut.whole or whole):
            return -1
        frame = self._done.get(source.key)
        return -1 if frame is None else frame

    def write(self, record: Record) -> None:
        """Append a record; it is in the file afterwards, whatever becomes of this process."""
        self._file.write(self._form.encode(record))
        self._file.flush()

    def begin(self, source: Input, *, every: int, whole: bool) -> None:
        """Begin with a video; what was written of it goes, unless it goes on from there."""
        cut = self._unfinished
        if cut is not None:
            if self.goes_on_after(source, every=every, whole=whole) >= 0:
                return
            self._file.truncate(cut.offset)
            self._file.seek(cut.offset)
        self._unfinished = Unfinished(source.name, self._file.tell(), every, whole)
        self._mark.write_bytes(_UNFINISHED.dump_json(self._unfinished))

    def end(self) -> None:
        """The video is done."""
        self._mark.unlink(missing_ok=True)
        self._unfinished = None

    def _go_on(self, path: Path) -> None:
        head = self._file.read(len(self._form.head))
        if head != self._form.head:
            # A head that was cut off has nothing after it.
            if not self._form.head.startswith(head):
                raise OutputError(f"{path} has other columns; name another file")
            self._file.seek(0)
            self._file.write(self._form.head)
        end = len(self._form.head)
        try:
            for written in self._form.scan(self._file):
                self._done[key_of(written.source)] = written.frame
                end = written.end
        except OutputError as error:
            raise OutputError(f"{path}: {error}; name another file") from error
        self._file.truncate(end)
        self._file.seek(end)
        self._unfinished = self._read_mark()

    def _read_mark(self) -> Unfinished | None:
        try:
            return _UNFINISHED.validate_json(self._mark.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            # It was cut off itself, and so before the first record of the video.
            return None


@contextmanager
def open_output(path: Path, heads: Mapping[Head, HeadSpec]) -> Iterator[Output]:
    """Open a results file for a block.

    Args:
        path: its suffix, one of `SUFFIXES`, says in which form.
        heads: what is answered, for the columns of a table.

    Raises:
        OutputError: it holds something else.
        OSError: it cannot be written.
    """
    if path.suffix == ".jsonl":
        with closing(Output(path, JsonLines())) as output:
            yield output
        return
    form = Csv(columns(heads))
    if path.suffix == ".csv":
        with closing(Output(path, form)) as output:
            yield output
        return
    # Nothing can be appended to a Parquet file: it is made of a table that grows beside it.
    table = path.with_name(f"{path.name}.unfinished.csv")
    if path.exists() and not table.exists():
        parquet.to_csv(path, table, form)
    output = Output(table, form)
    try:
        yield output
    finally:
        output.close()
        parquet.from_csv(table, path, columns(heads))
        if output.unfinished is None:
            table.unlink()
