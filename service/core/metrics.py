"""The contract's metrics on an injected registry; seconds and base units, no request labels."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_COUNTS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200)
_STAGES = ("decode", "detect", "queue", "infer", "encode")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Every metric of the service; `docs/metrics.md` lists them, a test holds the two together."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.http_seconds = Histogram(
            "mien_http_request_duration_seconds",
            "Time from the request's first byte to the response's last.",
            ["route", "method", "code"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "mien_stage_duration_seconds",
            "Time of one stage of one analysis.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.stages = {stage: self.stage_seconds.labels(stage) for stage in _STAGES}
        self.inference_seconds = Histogram(
            "mien_inference_duration_seconds",
            "Time of one batch run.",
            ["model", "provider"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.batch_size = Histogram(
            "mien_batch_size", "Items in one run.", ["model"], buckets=_SIZES, registry=registry
        )
        self.queue_depth = Gauge(
            "mien_queue_depth", "Items that wait for a run.", ["model"], registry=registry
        )
        self.in_flight = Gauge(
            "mien_in_flight_requests", "HTTP requests being answered.", registry=registry
        )
        self.faces = Histogram(
            "mien_faces_detected", "Faces found in one image.", buckets=_COUNTS, registry=registry
        )
        self.shed = Counter(
            "mien_requests_shed_total", "Work refused or dropped.", ["reason"], registry=registry
        )
        self.errors = Counter(
            "mien_errors_total", "Error answers by code.", ["code"], registry=registry
        )
        self.stream_sessions = Gauge(
            "mien_stream_sessions", "WebSocket sessions that are open.", registry=registry
        )
        self.stream_frames = Counter(
            "mien_stream_frames_total",
            "Frames of streams: processed, dropped or failed.",
            ["result"],
            registry=registry,
        )
        self.model_info = Gauge(
            "mien_model_info",
            "1 for every model that is served.",
            ["name", "version", "sha256", "provider"],
            registry=registry,
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
