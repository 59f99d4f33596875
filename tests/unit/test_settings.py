from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has set must not decide."""
    import os

    for name in [name for name in os.environ if name.upper().startswith("MIEN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mien.toml"
    monkeypatch.setenv("MIEN_CONFIG", str(path))
    return path


# Documentation -----------------------------------------------------------------------------------


def shown(default: Any) -> str:
    if isinstance(default, Path):
        return default.relative_to(ROOT).as_posix()
    if isinstance(default, tuple):
        return ",".join(default) or "none"
    return "none" if default is None else str(default)


def test_docs_list_each_setting_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| (.*) \|$", DOCS.read_text(), re.MULTILINE)
    assert rows == [
        (name, shown(field.default), field.description)
        for name, field in Settings.model_fields.items()
    ]


def test_units_stand_in_the_names() -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation is float and name not in ("min_face_px", "detector_enlarge"):
            assert name.endswith("_s"), name


# Sources -----------------------------------------------------------------------------------------


def test_it_works_without_any() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.models_dir.name == "models"


def test_flags_go_before_the_environment_and_it_before_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("port = 1\nslots = 1\nthreads = 1\n")
    monkeypatch.setenv("MIEN_PORT", "2")
    monkeypatch.setenv("MIEN_SLOTS", "2")
    settings = load_settings(["--port", "3"])
    assert (settings.port, settings.slots, settings.threads) == (3, 2, 1)


def test_lists_are_comma_separated_but_in_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('models = ["a", "b"]\n')
    monkeypatch.setenv("MIEN_DEFAULT_MODELS", " c ,d,, ")
    settings = load_settings(["--api-keys", "one,two"])
    assert settings.models == ("a", "b")
    assert settings.default_models == ("c", "d")
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]


def test_the_environment_is_read_whatever_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("mien_port", "9")
    assert load_settings().port == 9


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--detection-threshold", "0.5"], "detection_threshold", 0.5),
        (["--require-provider", "cuda"], "require_provider", "cuda"),
        (["--models", "a,b"], "models", ("a", "b")),
        (["--rate-limit", "100/minute"], "rate_limit", "100/minute"),
        (["--request-timeout-s=2.5"], "request_timeout_s", 2.5),
        (["--models-dir", "/srv/models"], "models_dir", Path("/srv/models")),
        (["--max-faces", "7"], "max_faces", 7),
        (
            ["--trusted-proxies", "10.0.0.0/8, ::1"],
            "trusted_proxies",
            (IPv4Network("10.0.0.0/8"), IPv6Network("::1/128")),
        ),
    ],
)
def test_flags_are_in_kebab_case(flags: list[str], name: str, value: Any) -> None:
    assert getattr(load_settings(flags), name) == value


def test_a_kubernetes_service_named_mien_is_no_setting(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("port = 9\n")
    links = {
        "MIEN_SERVICE_HOST": "10.0.0.1",
        "MIEN_SERVICE_PORT": "80",
        "MIEN_SERVICE_PORT_HTTP": "80",
        "MIEN_PORT": "tcp://10.0.0.1:80",
        "MIEN_PORT_80_TCP": "tcp://10.0.0.1:80",
        "MIEN_PORT_80_TCP_PROTO": "tcp",
        "MIEN_PORT_80_TCP_PORT": "80",
        "MIEN_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    for name, value in links.items():
        monkeypatch.setenv(name, value)
    assert load_settings().port == 9
    assert load_settings(["--port", "7"]).port == 7


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MIEN_PROT", "MIEN_", "mien_max_face", "MIEN_PORT_HTTP"])
def test_an_unknown_setting_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match=f"unknown setting {name} in the environment"):
        load_settings()


def test_an_unknown_setting_in_the_file_is_refused(config: Path) -> None:
    config.write_text("prot = 1\n")
    with pytest.raises(ValueError, match="prot"):
        load_settings()


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, ValueError)):
        load_settings(["--prot", "1"])


def test_a_missing_or_broken_file_is_refused(config: Path) -> None:
    with pytest.raises(ValueError, match="which is no file"):
        load_settings()
    config.write_text("port = \n")
    with pytest.raises(ValueError, match="Invalid value"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "eighty"),
        ("log_level", "loud"),
        ("provider", "tpu"),
        ("require_provider", "auto"),
        ("slots", "-1"),
        ("threads", "0"),
        ("max_batch_size", "0"),
        ("detector", "eyes"),
        ("detector_max_side", "10"),
        ("detection_threshold", "1.5"),
        ("detection_threshold", "nan"),
        ("min_face_px", "nan"),
        ("max_faces", "0"),
        ("max_bytes", "0"),
        ("request_timeout_s", "0"),
        ("request_timeout_s", "inf"),
        ("request_timeout_s", "nan"),
        ("drain_timeout_s", "-1"),
        ("rate_limit", "often"),
        ("rate_limit", ""),
        ("rate_limit", "0/minute"),
        ("trusted_proxies", "proxy"),
        ("trusted_proxies", "*"),
        ("trusted_proxies", "10.0.0.1/8"),
    ],
)
def test_a_value_out_of_bounds_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("MIEN_" + name.upper(), value)
    with pytest.raises(ValidationError, match=name):
        load_settings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"detector": "yunet"}, "needs yunet_path"),
        ({"max_faces": 100, "max_pending_faces": 99}, "at least max_faces"),
        ({"max_batch_images": 9, "max_pending_images": 8}, "at least max_batch_images"),
        ({"max_explain_faces": 100}, "at least 3 times max_explain_faces"),
        ({"max_held_bytes": 79_999_999}, "at least max_batch_bytes"),
        ({"max_bytes": 250_000_001}, "twice max_bytes"),
    ],
)
def test_what_does_not_hold_together_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**values)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_an_empty_key_is_refused(config: Path) -> None:
    config.write_text('api_keys = ["one", ""]\n')
    with pytest.raises(ValidationError, match="at least 1"):
        load_settings()


def test_keys_are_not_shown() -> None:
    settings = load_settings(["--api-keys", "hunter2"])
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()
