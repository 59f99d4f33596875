"""Forms of a results file that is appended to: how a record is written, and found again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from service.cli.records import Record, Row, to_line, to_rows
from service.errors import MienError


class OutputError(MienError):
    """A results file that cannot be gone on with."""


@dataclass(frozen=True, slots=True)
class Written:
    """A whole record that stands in a file."""

    source: str
    frame: int | None
    end: int
    """Where it ends, in bytes from the start of the file."""


class Format(Protocol):
    """Writes records, and finds those that were written."""

    @property
    def head(self) -> bytes:
        """What a file begins with."""
        ...

    def encode(self, record: Record) -> bytes:
        """A record, as it is appended."""
        ...

    def scan(self, file: BinaryIO) -> Iterator[Written]:
        """Whole records after the head; what comes after them was cut off.

        Raises:
            OutputError: the file holds something else.
        """
        ...


class JsonLines:
    """One object a line."""

    head = b""
    _BEGIN = b'{"request_id":'

    def encode(self, record: Record) -> bytes:
        """A record, as it is appended."""
        return to_line(record).encode() + b"\n"

    def scan(self, file: BinaryIO) -> Iterator[Written]:
        """Whole records."""
        end = 0
        for number, line in enumerate(file, 1):
            # Before anything is taken for a half-written line and dropped.
            if line[: len(self._BEGIN)] != self._BEGIN[: len(line)]:
                raise OutputError(f"line {number} is no result of `mien analyze`")
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                record = json.loads(line)
                yield Written(record["source"], record.get("frame"), end)
            except (ValueError, KeyError) as error:
                raise OutputError(f"line {number} is no result of `mien analyze`") from error


class Csv:
    """A row for each face, or one for a picture without a face."""

    def __init__(self, columns: Iterable[str]) -> None:
        self.columns = list(columns)
        self.head = self._text([dict(zip(self.columns, self.columns, strict=True))])

    def encode(self, record: Record) -> bytes:
        """A record, as it is appended."""
        return self.encode_rows(to_rows(record))

    def encode_rows(self, rows: Iterable[Row]) -> bytes:
        """Rows, as they are appended."""
        return self._text(rows)

    def scan(self, file: BinaryIO) -> Iterator[Written]:
        """Records of which every row is there."""
        lines = _Lines(file)
        reader = csv.DictReader(lines, self.columns)
        try:
            yield from self._whole(reader, lines)
        except (csv.Error, TypeError, ValueError) as error:
            raise OutputError(f"line {reader.line_num + 1} is no result") from error

    def _whole(self, reader: csv.DictReader[str], lines: _Lines) -> Iterator[Written]:
        left = 0
        for row in reader:
            if not lines.whole or lines.ended:
                return
            left = left or max(int(row["faces"]), 1)
            frame = int(row["frame"]) if row["frame"] else None
            left -= 1
            if left == 0:
                yield Written(row["source"], frame, len(self.head) + lines.read)

    def _text(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        return b"".join(map(self._line, rows))

    def _line(self, row: Mapping[str, Any]) -> bytes:
        text = io.StringIO()
        # Before Python 3.13 a name with `\r` is quoted only where lines end in it.
        writer = csv.DictWriter(text, self.columns, lineterminator="\r\n")
        writer.writerow({name: _cell(value) for name, value in row.items()})
        return text.getvalue().removesuffix("\r\n").encode() + b"\n"


class _Lines:
    """Lines for `csv`, which reads as many as a row has, and how many bytes they had."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = 0
        self.whole = True
        self.ended = False
        """Whether a row wanted more than there is: it was cut off in a name with a line break."""

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.read += len(line)
            self.whole = line.endswith(b"\n")
            yield line.decode(errors="replace")
        self.ended = True


def _cell(value: Any) -> Any:
    # As JSON and Parquet's readers have it.
    return str(value).lower() if isinstance(value, bool) else value
