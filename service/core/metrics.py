"""The contract's metrics on an injected registry; seconds and base units, no request labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_COUNTS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200)
_STAGES = ("decode", "detect", "queue", "infer", "encode")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Every metric of the service; `docs/metrics.md` lists them, a test holds the two together."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        histogram = partial(Histogram, registry=registry)
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        in_seconds = partial(histogram, buckets=BUCKETS_S)
        self.http_seconds = in_seconds(
            "mien_http_request_duration_seconds",
            "Time from the request's first byte to the response's last.",
            ["route", "method", "code"],
        )
        self.stage_seconds = in_seconds(
            "mien_stage_duration_seconds", "Time of one stage of one analysis.", ["stage"]
        )
        self.stages = {stage: self.stage_seconds.labels(stage) for stage in _STAGES}
        self.inference_seconds = in_seconds(
            "mien_inference_duration_seconds", "Time of one batch run.", ["model", "provider"]
        )
        self.batch_size = histogram(
            "mien_batch_size", "Items in one run.", ["model"], buckets=_SIZES
        )
        self.queue_depth = gauge("mien_queue_depth", "Items that wait for a run.", ["model"])
        self.in_flight = gauge("mien_in_flight_requests", "HTTP requests being answered.")
        self.faces = histogram("mien_faces_detected", "Faces found in one image.", buckets=_COUNTS)
        self.shed = counter("mien_requests_shed_total", "Work refused or dropped.", ["reason"])
        self.errors = counter("mien_errors_total", "Error answers by code.", ["code"])
        self.stream_sessions = gauge("mien_stream_sessions", "WebSocket sessions that are open.")
        self.stream_frames = counter(
            "mien_stream_frames_total",
            "Frames of streams: processed, dropped or failed.",
            ["result"],
        )
        self.model_info = gauge(
            "mien_model_info",
            "1 for every model that is served.",
            ["name", "version", "sha256", "provider"],
        )
        self._depths: dict[str, int] = {}
        self._providers: dict[str, str] = {}
        self._runs: dict[str, tuple[Histogram, Histogram]] = {}

    def collect(self) -> Iterator[Metric]:
        """As the registry does, without the time at which each series began."""
        for metric in self.registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric

    def serves(self, name: str, version: str, sha256: str, provider: str) -> None:
        """Note a model that is served, and where it runs."""
        self.model_info.labels(name, version, sha256, provider).set(1)
        self.runs(name, provider)

    def runs(self, name: str, provider: str) -> None:
        """Note a batcher whose runs are timed under this name, and where they are."""
        self._providers[name] = provider
        self.queued(name, 0)

    def queued(self, name: str, depth: int) -> None:
        """See `service.core.batcher.BatchObserver`."""
        # It changes twice for an image; the gauge asks when it is read.
        if name not in self._depths:
            self.queue_depth.labels(name).set_function(lambda: self._depths[name])
        self._depths[name] = depth

    def ran(self, name: str, size: int, seconds: float) -> None:
        """See `service.core.batcher.BatchObserver`; `prepare` is no model, its stages are timed."""
        if provider := self._providers.get(name):
            if name not in self._runs:
                seconds_of = self.inference_seconds.labels(name, provider)
                self._runs[name] = self.batch_size.labels(name), seconds_of
            sizes, times = self._runs[name]
            sizes.observe(size)
            times.observe(seconds)
