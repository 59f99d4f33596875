"""CSV -> Parquet and back, in pieces; pyarrow is an extra."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.cli.formats import Csv, OutputError


def require() -> None:
    """See whether pyarrow is there.

    Raises:
        OutputError: it is not.
    """
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise OutputError(f"a .parquet needs {error.name}: pip install 'mien[parquet]'") from error


def to_csv(path: Path, table: Path, form: Csv) -> None:
    """Write the rows of a Parquet file as a CSV; it is there as a whole or not at all.

    Raises:
        OutputError: the file is none, or has other columns.
    """
    from pyarrow import ArrowException, parquet

    part = table.with_name(f"{table.name}.part")
    try:
        with parquet.ParquetFile(path) as file, part.open("wb") as rows:
            if file.schema_arrow.names != form.columns:
                raise OutputError(f"{path} has other columns; name another file")
            rows.write(form.head)
            for batch in file.iter_batches():
                rows.write(form.encode_rows(batch.to_pylist()))
        os.replace(part, table)
    except ArrowException as error:
        raise OutputError(f"{path} is no result of `mien analyze`; name another file") from error
    finally:
        part.unlink(missing_ok=True)


def from_csv(table: Path, path: Path, columns: Mapping[str, type]) -> None:
    """Write a CSV as a Parquet file, over one that is there.

    Raises:
        OutputError: that cannot be; the CSV stays.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    types: dict[type, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types.get(kind, pa.bool_())) for name, kind in columns.items()])
    convert = csv.ConvertOptions(column_types=schema, strings_can_be_null=True, null_values=[""])
    parse = csv.ParseOptions(newlines_in_values=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with (
            csv.open_csv(table, parse_options=parse, convert_options=convert) as rows,
            parquet.ParquetWriter(part, schema) as writer,
        ):
            for batch in rows:
                writer.write_batch(batch)
        os.replace(part, path)
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"{path} cannot be made of {table}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
