from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tiny_models: Path) -> None:
    """Tiny real models, and nothing of what this machine has set."""
    for name in [name for name in os.environ if name.upper().startswith("MIEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MIEN_MODELS_DIR", str(tiny_models))
    # It would take over the log of the whole test run.
    monkeypatch.setattr("service.api.telemetry.configure_logging", lambda level: None)
