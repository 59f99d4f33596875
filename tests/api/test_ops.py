"""Health, models, metrics, the Open Inference names, OpenAPI, and headers of every answer."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.explanations import ExplainOut
from service.api.schemas import AnalyzeOut
from service.card import find_models, load_card
from tests.api.conftest import served
from tests.detectors import stub_detector
from tests.yunet import stub_yunet

pytestmark = pytest.mark.asyncio(loop_scope="module")

JPEG = {"content-type": "image/jpeg"}
MODELS = Path(__file__).parent.parent.parent / "models"


async def test_live_and_ready(client):
    for path in ("/livez", "/v2/health/live"):
        assert (await client.get(path)).json() == {"status": "live"}
    for path in ("/readyz", "/v2/health/ready"):
        assert (await client.get(path)).json() == {"status": "ready"}


async def test_models_are_their_cards(client):
    shown = (await client.get("/v1/models")).json()
    assert set(shown) == {"models", "detector"}
    models = shown["models"]
    by_name = {model["name"]: model for model in models}
    assert list(by_name) == find_models(MODELS)
    for name, model in by_name.items():
        card = load_card(MODELS / name)
        file = (MODELS / name / "model.onnx").read_bytes()
        assert model["sha256"] == card.sha256 == hashlib.sha256(file).hexdigest()
        assert model["provider"] == "cpu"
        assert (await client.get(f"/v1/models/{name}")).json() == model
    defaults = [head for model in models for head in model["default"]]
    assert sorted(defaults) == ["age", "emotion", "gender"]


async def test_the_detector_is_shown_beside_the_models(tmp_path):
    path = stub_yunet(tmp_path / "yunet.onnx")
    async with served(detector="yunet", yunet_path=path) as other:
        foreign = (await other.get("/v1/models")).json()["detector"]
    assert foreign["id"].startswith("yunet@")
    assert (foreign["provider"], foreign["card"]) == ("cpu", None)
    async with served(detector="mien", detector_dir=stub_detector(tmp_path)) as other:
        ours = (await other.get("/v1/models")).json()["detector"]
    assert ours["id"] == "detector@1.0.0"
    assert ours["card"]["threshold"] == 0.5


async def test_open_inference_protocol(client):
    server = (await client.get("/v2")).json()
    assert server["name"] == "mien"
    model = (await client.get("/v2/models/guided_fusion")).json()
    assert model["inputs"][0]["datatype"] == "UINT8"
    assert model["inputs"][0]["shape"] == [-1, 48, 48, model["inputs"][0]["shape"][3]]
    assert {out["name"] for out in model["outputs"]} == {"emotion", "gender", "age"}
    assert (await client.get("/v2/models/guided_fusion/ready")).status_code == 200


async def test_metrics_of_a_request(photo):
    async with served() as client:
        answer = await client.post("/v1/analyze", content=photo, headers=JPEG)
        assert answer.status_code == 200
        await client.get("/nowhere/at/all")
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert "_created" not in response.text
    samples = {
        (s.name, *sorted(s.labels.items())): s.value for f in families.values() for s in f.samples
    }
    assert samples["mien_faces_detected_count",] == 1
    assert samples["mien_faces_detected_sum",] == 1
    for stage in ("decode", "detect", "queue", "infer", "encode"):
        assert samples["mien_stage_duration_seconds_count", ("stage", stage)] == 1
    by = answer.json()["models"]["age"].split("@")[0]
    assert samples["mien_batch_size_count", ("model", by)] == 1
    assert samples["mien_queue_depth", ("model", by)] == 0
    assert samples["mien_in_flight_requests",] == 1  # the scrape itself
    routes = {s.labels["route"] for s in families["mien_http_request_duration_seconds"].samples}
    assert {"/v1/analyze", "unmatched", "/readyz"} <= routes
    info = families["mien_model_info"].samples
    assert all(set(s.labels) == {"name", "version", "sha256", "provider"} for s in info)


async def test_every_answer_has_its_headers(client, photo):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = {"x-request-id": "abc-123", "traceparent": trace}
    for path in ("/livez", "/nowhere", "/v1/models"):
        headers = (await client.get(path, headers=given)).headers
        assert headers["x-request-id"] == "abc-123"
        assert headers["traceparent"] == trace
        assert re.fullmatch(r"total;dur=\d+\.\d\d", headers["server-timing"])
    headers = (await client.post("/v1/analyze", content=photo, headers=JPEG)).headers
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    stages = [part.split(";")[0] for part in headers["server-timing"].split(", ")]
    assert stages == ["decode", "detect", "queue", "infer", "total"]
    assert "traceparent" not in headers


@pytest.mark.parametrize(
    "bad",
    [
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c",
    ],
)
async def test_an_invalid_trace_is_not_passed_on(client, bad):
    assert "traceparent" not in (await client.get("/livez", headers={"traceparent": bad})).headers


@pytest.mark.parametrize("bad", ["a b", "x" * 129, "é", "a\r\nb: c", "<script>"])
async def test_a_bad_request_id_is_replaced(client, bad):
    headers = (await client.get("/livez", headers={"x-request-id": bad.encode()})).headers
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])


async def test_openapi_describes_every_option_and_error(client):
    schema = (await client.get("/openapi.json")).json()
    analyze = schema["paths"]["/v1/analyze"]["post"]
    options = {p["name"]: p for p in analyze["parameters"] if p["in"] == "query"}
    assert set(options) == {
        "models", "attributes", "max_faces", "min_face_px", "detection_threshold", "landmarks",
        "detect",
    }  # fmt: skip
    assert all(option.get("description") for option in options.values())
    assert {"image/jpeg", "multipart/form-data", "application/json"} <= set(
        analyze["requestBody"]["content"]
    )
    assert {"200", "400", "401", "413", "415", "422", "429", "503", "504"} <= set(
        analyze["responses"]
    )
    (example,) = schema["components"]["schemas"]["AnalyzeOut"]["examples"]
    assert AnalyzeOut.model_validate(example).model_dump(mode="json", exclude_unset=True) == example
    (example,) = schema["components"]["schemas"]["ExplainOut"]["examples"]
    assert ExplainOut.model_validate(example).model_dump(mode="json", exclude_unset=True) == example
    assert set(schema["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}


async def test_openapi_knows_no_other_form_of_errors(client):
    schema = (await client.get("/openapi.json")).json()
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    assert set(response["content"]) == {"application/problem+json"}, path
    one = schema["paths"]["/v1/models/{name}"]["get"]["responses"]
    assert {"200", "401", "404", "429", "503"} <= set(one)
    assert "503" in schema["paths"]["/readyz"]["get"]["responses"]
    more = {p["name"] for p in schema["paths"]["/v1/explain"]["post"]["parameters"]}
    assert more >= {"method", "labels", "overlay", "attributes"}
    for path in ("/v1/analyze", "/v1/analyze/batch", "/v1/explain"):
        parameters = schema["paths"][path]["post"]["parameters"]
        assert "Request-Timeout-Ms" in [p["name"] for p in parameters if p["in"] == "header"]


async def test_head_is_a_get_without_its_body(client):
    for path in ("/livez", "/v1/models", "/metrics", "/openapi.json"):
        assert (await client.head(path)).status_code == 200, path
    assert (await client.head("/nowhere")).status_code == 404
    refused = await client.head("/v1/analyze")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert 'method="HEAD",route="/livez"' in (await client.get("/metrics")).text


async def test_no_page_loads_from_elsewhere(client):
    for path in ("/docs", "/redoc"):
        assert (await client.get(path)).status_code == 404
