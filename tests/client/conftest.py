from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.api.streaming import Served, serving
from tests.fakes import make_model_folder

PHOTO = Path(__file__).parents[1] / "media" / "astronaut.jpg"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_model_folder(folder, "moods", heads=("emotion",))
    make_model_folder(folder, "ages", heads=("gender", "age"))
    return folder


@pytest_asyncio.fixture
async def served(tiny_models: Path) -> AsyncIterator[Served]:
    """A server on a socket, in this loop: sync clients call it from a thread."""
    async with serving(models_dir=tiny_models) as served:
        yield served


@pytest.fixture(scope="session")
def photo() -> bytes:
    return PHOTO.read_bytes()
