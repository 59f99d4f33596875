"""Every setting of the service: environment `MIEN_*`, a TOML file or flags; none unknown."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import limits
from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from service.types import HEADS

_PREFIX = "MIEN_"
_CONFIG = "MIEN_CONFIG"
API_KEY = "MIEN_API_KEY"
"""No setting: the key that `mien analyze --server` shows."""

_LINK = re.compile(
    r"MIEN_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_TCP(_(PROTO|PORT|ADDR))?)", re.IGNORECASE
)
"""No settings either: what Kubernetes sets in every pod beside a Service that is named mien."""
_LINKED_PORT = "tcp://"
"""How MIEN_PORT begins there."""

Names = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated in the environment and on the command line, a list in the file."""

Key = Annotated[SecretStr, Field(min_length=1)]
"""An empty one would let everybody in."""


class _Environment(EnvSettingsSource):
    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        if str(values.get("port")).startswith(_LINKED_PORT):
            del values["port"]
        return values


class Settings(BaseSettings):
    """Flags go before the environment, it before the file that MIEN_CONFIG names."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_prog_name="mien serve",
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )

    models_dir: Path = Field(
        Path(__file__).parent.parent / "models", description="Folder of model folders."
    )
    models: Names = Field((), description="Models to serve; empty for all in the folder.")
    default_models: Names = Field(
        ("mien",),
        description="A head's default is the first of these that has it, else any model.",
    )
    provider: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="ONNX Runtime execution provider; auto takes CUDA where it works."
    )
    require_provider: Literal["cpu", "cuda"] | None = Field(
        None, description="Not ready unless the models run on this provider."
    )
    slots: int = Field(
        0,
        ge=0,
        le=256,
        description="Images that are prepared, and runs of each model for those that wait, at a "
        "time; 0 for as many as there are cores for.",
    )
    threads: int = Field(1, ge=1, le=256, description="ONNX Runtime threads of one run.")
    max_batch_size: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Faces in one run, 8 on the CPU and 32 on CUDA if it is not set; on CUDA also "
        "pictures in one of the detector.",
    )

    detector: Literal["mien", "haar", "yunet"] = Field("mien", description="What finds the faces.")
    detector_dir: Path = Field(
        Path(__file__).parent.parent / "models" / "detector",
        description="Folder of the detector that `mien` is.",
    )
    yunet_path: Path | None = Field(None, description="YuNet-format ONNX file for `yunet`.")
    detector_max_side: int | None = Field(
        None,
        ge=64,
        le=4096,
        description="Longer side of the picture that is searched, in pixels; "
        "none for the detector's own: mien 640, haar 480, yunet 640.",
    )
    detector_enlarge: float = Field(
        1.5,
        ge=1,
        le=4,
        description="`mien` enlarges a smaller picture up to so many times, within that side, for "
        "small faces; 1 for never.",
    )
    detector_tiles: int = Field(
        1,
        ge=1,
        le=8,
        description="`mien` searches pictures of up to so many times `detector_max_side` piece by "
        "piece as well, for large groups; 1 for not.",
    )
    detection_threshold: float | None = Field(
        None, ge=0, le=1, description="Lowest detection score; none for the detector's own."
    )
    min_face_px: float = Field(
        20, ge=1, le=16_384, description="Smallest face reported, in pixels of the full image."
    )
    max_faces: int = Field(100, ge=1, le=1000, description="Most faces reported for one image.")

    max_head_bytes: int = Field(
        65_536, ge=1024, description="Request line and headers of one request."
    )
    head_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Time for a request's line and headers to arrive."
    )
    max_bytes: int = Field(20_000_000, ge=1, description="Encoded size of one image.")
    max_pixels: int = Field(50_000_000, ge=1, description="Width x height of one image.")
    max_side: int = Field(16_384, ge=1, description="Longer side of one image, in pixels.")
    max_batch_images: int = Field(16, ge=1, le=256, description="Images in one batch request.")
    max_batch_bytes: int = Field(80_000_000, ge=1, description="Body of one batch request.")

    max_requests: int = Field(256, ge=1, description="Requests at a time.")
    max_held_bytes: int = Field(
        500_000_000, ge=1, description="Bodies in memory at a time, of all requests together."
    )
    max_pending_images: int = Field(64, ge=1, description="Images that may wait to be decoded.")
    max_pending_faces: int = Field(1024, ge=1, description="Faces that may wait for a model.")
    max_explain_faces: int = Field(
        10, ge=1, le=1000, description="Most faces explained of one image, largest first."
    )
    max_explain_batch_size: int = Field(4, ge=1, le=1024, description="Explanations in one run.")
    max_pending_explanations: int = Field(
        256, ge=1, description="Explanations that may wait for a model, one for a head of a face."
    )
    max_streams: int = Field(64, ge=1, description="Streams (WebSocket sessions) at a time.")
    max_client_streams: int = Field(
        16, ge=1, description="Streams at a time of one client: one key, or else one address."
    )
    max_stream_in_flight: int = Field(
        8, ge=2, le=256, description="Frames held for one stream, waiting or in work."
    )
    max_stream_frames: int = Field(
        0,
        ge=0,
        description="Frames of all streams together in work at a time; 0 for twice the slots.",
    )
    max_frame_bytes: int = Field(
        4_000_000, ge=1, description="Encoded size of one frame of a stream."
    )
    stream_idle_timeout_s: float = Field(
        60.0, gt=0, le=86_400, description="A stream that is silent for so long is ended."
    )
    stream_send_timeout_s: float = Field(
        10.0, gt=0, le=600, description="A stream whose client does not read for so long is ended."
    )
    stream_state_key: Key | None = Field(
        None,
        description="Signs the `state` of streams; the same for all replicas. None for a key of "
        "the process's own, which no other replica reads.",
    )
    stream_ping_s: float = Field(
        20.0, gt=0, le=3600, description="Time between pings to the client of a stream."
    )
    request_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest time a request may take; clients may ask for less."
    )
    drain_timeout_s: float = Field(
        20.0, ge=0, le=600, description="Time to finish admitted work after SIGTERM."
    )
    drain_delay_s: float = Field(
        0.0, ge=0, le=600, description="Time to answer on, unready, after SIGTERM."
    )

    api_keys: Annotated[tuple[Key, ...], NoDecode] = Field(
        (), description="Keys of which a client must show one; empty for no authentication."
    )
    rate_limit: str | None = Field(
        None,
        description="Requests allowed to one client (a key, or else an address), as `100/minute`; "
        "none for no limit. A stream counts as one, whatever its frames.",
    )
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of proxies that are believed who the client is "
        "(`X-Forwarded-For`); empty for none.",
    )

    @field_validator("models", "default_models", "api_keys", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("rate_limit")
    @classmethod
    def _check_rate(cls, value: str | None) -> str | None:
        if value is not None:
            rate = limits.parse(value)
            if rate.amount < 1:
                raise ValueError("it would let nobody in")
        return value

    @model_validator(mode="after")
    def _hold_together(self) -> Settings:
        if self.detector == "yunet" and self.yunet_path is None:
            raise ValueError("detector=yunet needs yunet_path")
        if self.max_pending_faces < self.max_faces:
            raise ValueError("max_pending_faces must be at least max_faces")
        if self.max_pending_images < self.max_batch_images:
            raise ValueError("max_pending_images must be at least max_batch_images")
        if self.max_pending_explanations < self.max_explain_faces * len(HEADS):
            raise ValueError(
                f"max_pending_explanations must be at least {len(HEADS)} times max_explain_faces"
            )
        if self.max_held_bytes < max(2 * self.max_bytes, self.max_batch_bytes):
            raise ValueError("max_held_bytes must be at least max_batch_bytes and twice max_bytes")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take flags and arguments, the environment, and the file, in this order."""
        environment = _Environment(settings_cls)
        config = os.environ.get(_CONFIG)
        if config is None:
            return init_settings, environment
        if not Path(config).is_file():
            raise ValueError(f"{_CONFIG} names {config!r}, which is no file")
        return init_settings, environment, TomlConfigSettingsSource(settings_cls, Path(config))


def load_settings(flags: Sequence[str] | None = None) -> Settings:
    """Read the settings.

    Args:
        flags: command-line flags that go before the environment; None for none.

    Raises:
        ValueError: an unknown or wrong setting; pydantic's ValidationError is one.
    """
    known = {_CONFIG, API_KEY, *(_PREFIX + name.upper() for name in Settings.model_fields)}
    if unknown := sorted(
        name
        for name in os.environ
        if name.upper().startswith(_PREFIX)
        and name.upper() not in known
        and not _LINK.fullmatch(name)
    ):
        raise ValueError(f"unknown setting {unknown[0]} in the environment")
    return Settings() if flags is None else Settings(_cli_parse_args=list(flags))
