from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes import make_model_folder


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_model_folder(folder, "moods", heads=("emotion",))
    make_model_folder(folder, "ages", heads=("gender", "age"))
    return folder


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tiny_models: Path) -> None:
    """Tiny real models, and nothing of what this machine has set."""
    for name in [name for name in os.environ if name.upper().startswith("MIEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MIEN_MODELS_DIR", str(tiny_models))
    # It would take over the log of the whole test run.
    monkeypatch.setattr("service.api.telemetry.configure_logging", lambda level: None)
