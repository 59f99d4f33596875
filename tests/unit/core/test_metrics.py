"""The contract's list of metrics, held against the code and against docs/metrics.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from service.core.metrics import BUCKETS_S, Metrics

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]
CONTRACT = {
    "mien_http_request_duration_seconds": ("histogram", ("route", "method", "code")),
    "mien_stage_duration_seconds": ("histogram", ("stage",)),
    "mien_inference_duration_seconds": ("histogram", ("model", "provider")),
    "mien_batch_size": ("histogram", ("model",)),
    "mien_queue_depth": ("gauge", ("model",)),
    "mien_in_flight_requests": ("gauge", ()),
    "mien_faces_detected": ("histogram", ()),
    "mien_requests_shed_total": ("counter", ("reason",)),
    "mien_errors_total": ("counter", ("code",)),
    "mien_stream_sessions": ("gauge", ()),
    "mien_stream_frames_total": ("counter", ("result",)),
    "mien_model_info": ("gauge", ("name", "version", "sha256", "provider")),
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def by_name(metrics: Metrics) -> dict[str, MetricWrapperBase]:
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return {value._name + ("_total" if value._type == "counter" else ""): value for value in found}


def test_the_contracts_metrics_are_there_and_no_others(metrics: Metrics) -> None:
    found = {name: (value._type, value._labelnames) for name, value in by_name(metrics).items()}
    assert found == CONTRACT


@pytest.mark.parametrize("name", [name for name in CONTRACT if name.endswith("_seconds")])
def test_durations_have_the_contracts_buckets(metrics: Metrics, name: str) -> None:
    metric = by_name(metrics)[name]
    labelled = metric.labels(*["x"] * len(CONTRACT[name][1])) if CONTRACT[name][1] else metric
    labelled.observe(0.003)  # type: ignore[attr-defined]
    text = generate_latest(metrics.registry).decode()
    ours = "\n".join(line for line in text.splitlines() if metric is labelled or '"x"' in line)
    bounds = re.findall(rf'^{name}_bucket{{.*le="([^"]+)"', ours, re.MULTILINE)
    assert [float(bound) for bound in bounds] == [*SECONDS, float("inf")]
    assert list(BUCKETS_S) == SECONDS


def test_docs_list_each_metric_with_its_type_and_labels() -> None:
    row = r"^\| `(mien_\w+)` \| (\w+) \|([^|]*)\| (.+) \|$"
    rows = re.findall(row, DOCS.read_text(), re.MULTILINE)
    documented = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows
    }
    assert documented == CONTRACT
    assert all(text.strip() for *_, text in rows)


def test_two_services_in_one_process_do_not_share_numbers() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.in_flight.inc()
    assert other.registry.get_sample_value("mien_in_flight_requests") == 0


def test_a_served_model_is_shown_with_its_provider(metrics: Metrics) -> None:
    metrics.serves("m", "1.2.3", "ab", "cuda")
    value = metrics.registry.get_sample_value
    labels = {"name": "m", "version": "1.2.3", "sha256": "ab", "provider": "cuda"}
    assert value("mien_model_info", labels) == 1
    assert value("mien_queue_depth", {"model": "m"}) == 0
    metrics.queued("m", 5)
    metrics.ran("m", 3, 0.02)
    assert value("mien_queue_depth", {"model": "m"}) == 5
    assert value("mien_batch_size_sum", {"model": "m"}) == 3
    run = {"model": "m", "provider": "cuda"}
    assert value("mien_inference_duration_seconds_sum", run) == pytest.approx(0.02)


def test_preparing_is_no_inference(metrics: Metrics) -> None:
    metrics.queued("prepare", 2)
    metrics.ran("prepare", 1, 0.02)
    text = generate_latest(metrics.registry).decode()
    assert 'mien_queue_depth{model="prepare"} 2.0' in text
    assert 'mien_batch_size_count{model="prepare"}' not in text
    assert 'mien_inference_duration_seconds_count{model="prepare"' not in text
