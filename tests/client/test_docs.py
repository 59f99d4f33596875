"""The examples of the documents are run as they stand there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.api.streaming import Served

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    (name, code)
    for name in ("client.md", "stream.md")
    for code in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("name", "code"), EXAMPLES)
async def test_it_runs(
    served: Served,
    photo: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: str,
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    monkeypatch.chdir(tmp_path)
    code = code.replace("127.0.0.1:8000", served.address)
    await asyncio.to_thread(exec, compile(code, name, "exec"), {})
    assert capsys.readouterr().out


def test_there_are_some() -> None:
    assert len(EXAMPLES) == 3
