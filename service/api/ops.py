"""Health, readiness, metrics, and the Open Inference Protocol's names for them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

import service
from service.api import problems
from service.api.deps import admit
from service.api.rest import find_model, problem_responses
from service.core.pipeline import Analyzer
from service.errors import NotReady, ServiceClosed
from service.types import Head

router = APIRouter()


class Status(BaseModel):
    """A health answer."""

    status: str


class ServerOut(BaseModel):
    """Open Inference Protocol: server metadata."""

    name: str
    version: str
    extensions: list[str]


class TensorOut(BaseModel):
    """Open Inference Protocol: an input or output tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any]


class ModelMetadataOut(BaseModel):
    """Open Inference Protocol: model metadata."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorOut]
    outputs: list[TensorOut]


@router.get("/livez", summary="Whether the process answers")
@router.get("/v2/health/live", summary="Open Inference Protocol: live")
async def live() -> Status:
    """Always 200 while the event loop turns."""
    return Status(status="live")


@router.get(
    "/readyz",
    summary="Whether work is taken",
    response_model=Status,
    responses=problem_responses(503),
)
@router.get(
    "/v2/health/ready",
    summary="Open Inference Protocol: ready",
    response_model=Status,
    responses=problem_responses(503),
)
async def ready(request: Request) -> Status | Response:
    """200, or 503 with the reason; a probe that is told to wait is no error to be counted."""
    analyzer: Analyzer = request.app.state.analyzer
    if reason := analyzer.unready:
        kind = ServiceClosed if analyzer.draining else NotReady
        return problems.respond(request, kind(f"not ready: {reason}", retry_after_s=1.0))
    return Status(status="ready")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    body = generate_latest(request.app.state.metrics)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


@router.get("/v2", summary="Open Inference Protocol: server metadata")
async def server() -> ServerOut:
    """Name and version."""
    return ServerOut(name="mien", version=service.__version__, extensions=[])


@router.get(
    "/v2/models/{name}",
    summary="Open Inference Protocol: model metadata",
    dependencies=[Depends(admit)],
    responses=problem_responses(401, 404, 429, 503),
)
async def model_metadata(request: Request, name: str) -> ModelMetadataOut:
    """Names, types and shapes of a model's tensors."""
    card = find_model(request, name)
    spec = card.input
    return ModelMetadataOut(
        name=card.name,
        versions=[card.version],
        platform="onnxruntime_onnx",
        inputs=[
            TensorOut(
                name=spec.name,
                datatype="UINT8",
                shape=[-1, spec.size, spec.size, spec.channels],
                parameters={"color": spec.color},
            )
        ],
        outputs=[_output(head, head_spec.labels) for head, head_spec in card.heads.items()],
    )


@router.get(
    "/v2/models/{name}/ready",
    summary="Open Inference Protocol: model ready",
    response_model=Status,
    responses=problem_responses(404, 503),
)
async def model_ready(request: Request, name: str) -> Status | Response:
    """200 where the model is served and work is taken, 404 or 503 otherwise."""
    find_model(request, name)
    return await ready(request)


def _output(head: Head, labels: tuple[str, ...]) -> TensorOut:
    return TensorOut(
        name=head, datatype="FP32", shape=[-1, len(labels)], parameters={"labels": list(labels)}
    )
