from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.api.streaming import Served, serving

PHOTO = Path(__file__).parents[1] / "media" / "astronaut.jpg"


@pytest_asyncio.fixture
async def served(tiny_models: Path) -> AsyncIterator[Served]:
    """A server on a socket, in this loop: sync clients call it from a thread."""
    async with serving(models_dir=tiny_models) as served:
        yield served


@pytest.fixture(scope="session")
def photo() -> bytes:
    return PHOTO.read_bytes()
