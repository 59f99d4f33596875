"""The REST endpoints that analyse: one image, a batch, and which models there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.exceptions import HTTPException

from service.api import problems
from service.api.deps import (
    IMAGE_TYPES,
    admit,
    deadline,
    read_image,
    read_images,
)
from service.api.explanations import ExplainOut, ExplainQuery, to_explain_json
from service.api.schemas import (
    AnalyzeOut,
    AnalyzeQuery,
    BatchOut,
    ImageJson,
    Json,
    ModelOut,
    ModelsOut,
    ProblemOut,
    encode,
    to_json,
    to_model_json,
    to_models_json,
)
from service.api.waiting import InTime, WhileConnected
from service.api.work import WorkRoute
from service.core.pipeline import Analyzer

AnyQuery = TypeVar("AnyQuery", bound=AnalyzeQuery)

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TIMEOUT = {
    "name": "Request-Timeout-Ms",
    "in": "header",
    "description": "How long the client waits, at most the server's own limit: work that cannot be "
    "done by then is dropped before it is run.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {field: schema}
    return {"schema": {"type": "object", "properties": properties, "required": [field]}}


_IMAGE_BODY = {
    "parameters": [_TIMEOUT],
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(IMAGE_TYPES, _BINARY),
            "multipart/form-data": _form("image", _BINARY["schema"]),
            "application/json": {
                "schema": ImageJson.model_json_schema(),
                "example": {"image": "/9j/4AAQSkZJRgABAQ…"},
            },
        },
    },
}
_BATCH_BODY = {
    "parameters": [_TIMEOUT],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form("images", {"type": "array", "items": _BINARY["schema"]})
        },
    },
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the error statuses of a call: their codes, all in one form."""
    titles = {404: ["`not_found`: Not Found."]}
    for _, kind in problems.KINDS:
        titles.setdefault(kind.status, []).append(f"`{kind.code}`: {kind.title}.")
    content = {problems.MEDIA_TYPE: {"schema": ProblemOut.model_json_schema()}}
    # With a default FastAPI leaves out its own form of a 422, which is never sent.
    described = {"default": "Any other error."} | {s: " ".join(titles[s]) for s in statuses}
    return {
        status: {"description": description, "content": content}
        for status, description in described.items()
    }


router = APIRouter(prefix="/v1", dependencies=[Depends(admit)])
work_router = APIRouter(prefix="/v1", dependencies=[Depends(admit)], route_class=WorkRoute)
_WORK_ERRORS = problem_responses(400, 401, 413, 415, 422, 429, 503, 504)


@work_router.post(
    "/analyze",
    summary="Analyse one image",
    response_model=AnalyzeOut,
    response_model_exclude_unset=True,
    responses=_WORK_ERRORS,
    openapi_extra=_IMAGE_BODY,
)
async def analyze(request: Request, query: Annotated[AnalyzeQuery, Query()]) -> Response:
    """Find every face and say emotion, gender and age band of each; no face is an empty list."""
    return await _work(request, query, _analyze)


@work_router.post(
    "/explain",
    summary="Analyse one image, and show why",
    response_model=ExplainOut,
    response_model_exclude_unset=True,
    responses=_WORK_ERRORS,
    openapi_extra=_IMAGE_BODY,
)
async def explain(request: Request, query: Annotated[ExplainQuery, Query()]) -> Response:
    """As analyze, with a picture for each face and head: which pixels its answer rests on."""
    return await _work(request, query, _explain)


@work_router.post(
    "/analyze/batch",
    summary="Analyse several images",
    response_model=BatchOut,
    response_model_exclude_unset=True,
    responses=_WORK_ERRORS,
    openapi_extra=_BATCH_BODY,
)
async def analyze_batch(request: Request, query: Annotated[AnalyzeQuery, Query()]) -> Response:
    """One result or one error per image, in order; a bad image costs the others nothing."""
    until = deadline(request)
    with InTime(until):
        images = await read_images(request)
    with WhileConnected(request):
        results = await _batch(request, images, query, until)
    return _respond(request, {"request_id": request.state.request_id, "results": results})


@router.get("/models", summary="Every served model", responses=problem_responses(401, 429, 503))
async def models(request: Request) -> ModelsOut:
    """The cards of all models, and of the detector."""
    analyzer: Analyzer = request.app.state.analyzer
    return to_models_json(analyzer)


@router.get(
    "/models/{name}",
    summary="One served model",
    responses=problem_responses(401, 404, 429, 503),
)
async def model(request: Request, name: str) -> ModelOut:
    """The card of one model."""
    return find_model(request, name)


def find_model(request: Request, name: str) -> ModelOut:
    """The card of a served model.

    Raises:
        HTTPException: 404, there is no such model.
    """
    analyzer: Analyzer = request.app.state.analyzer
    if name not in analyzer.models:
        raise HTTPException(404, f"no model {name!r}; there are {', '.join(analyzer.models)}")
    return to_model_json(analyzer, name)


async def _work(
    request: Request,
    query: AnyQuery,
    run: Callable[[Request, bytes, AnyQuery, float], Coroutine[Any, Any, Json]],
) -> Response:
    """What `run` makes of the one image of a request."""
    until = deadline(request)
    with InTime(until):
        data = await read_image(request)
        with WhileConnected(request):
            out = await run(request, data, query, until)
    return _respond(request, out)


async def _analyze(request: Request, data: bytes, query: AnalyzeQuery, until: float) -> Json:
    state = request.app.state
    options = query.merged(state.options)
    result = await state.analyzer.analyze(data, options, deadline=until)
    return to_json(result, request_id=request.state.request_id, landmarks=query.landmarks)


async def _explain(request: Request, data: bytes, query: ExplainQuery, until: float) -> Json:
    state = request.app.state
    options = query.merged(state.explain_options)
    explained = await state.analyzer.explain(data, options, query.wanted(), deadline=until)
    return to_explain_json(
        explained,
        request_id=request.state.request_id,
        landmarks=query.landmarks,
        method=query.method,
    )


async def _batch(
    request: Request, images: Sequence[bytes], query: AnalyzeQuery, until: float
) -> list[Json]:
    return await asyncio.gather(*(_batch_item(request, data, query, until) for data in images))


async def _batch_item(request: Request, data: bytes, query: AnalyzeQuery, until: float) -> Json:
    try:
        with InTime(until):
            return {"result": await _analyze(request, data, query, until)}
    except Exception as error:  # whatever it is, the other images get their answers
        problems.note(error, request.app.state.metrics)
        body = problems.problem(
            error, instance=request.url.path, request_id=request.state.request_id
        )
        return {"error": body}


def _respond(request: Request, out: Json) -> Response:
    started = perf_counter()
    request.state.timings_ms = out.get("timings_ms", {})
    body = encode(out)
    seconds = perf_counter() - started
    request.app.state.metrics.stages["encode"].observe(seconds)
    return Response(body, media_type="application/json")
