from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from tests.fakes import make_model_folder

# A machine that is busy with something else is no fault of the code.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """`../shared`; a test that wants it is skipped without, but not where CI runs."""
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SHARED} is missing")
        pytest.skip(f"{SHARED} is missing")
    return SHARED


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small, true models that answer all heads."""
    folder = tmp_path_factory.mktemp("models")
    make_model_folder(folder, "moods", heads=("emotion",))
    make_model_folder(folder, "ages", heads=("gender", "age"))
    return folder
