"""The endpoints that work on images: what FastAPI declares of them, done directly.

Nearly every request is for one of them, and begins on a cold cache: what the layers between take
is a tenth of a request (`benchmarks/request.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.deps import admitted
from service.errors import InvalidOption, MienError

Options = TypeVar("Options", bound=BaseModel)


class WorkRoute(APIRoute):
    """Lets the client in, reads the options of `endpoint(request, query)`, and calls it.

    The signature and the dependencies stand in OpenAPI as those of any route; FastAPI would solve
    them anew for each request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What is called with each request."""
        endpoint = self.endpoint
        kind: type[BaseModel] = get_type_hints(endpoint)["query"]

        async def handle(request: Request) -> Response:
            with admitted(request) as request.state.hold:
                options = parse_options(kind, request.scope["query_string"])
                response: Response = await endpoint(request, options)
                return response

        return handle

    def alone(self) -> ASGIApp:
        """This route as an application; it answers the errors of the service."""
        handler = self.get_route_handler()

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            scope["route"] = self
            request = Request(scope, receive, send)
            try:
                response = await handler(request)
            except (MienError, HTTPException) as error:
                response = await problems.answer(request, error)
            await response(scope, receive, send)

        return serve


class WorkFirst(FastAPI):
    """Calls applications for work by their path, past its own layers and the search for a route."""

    work: Mapping[str, ASGIApp] = MappingProxyType({})
    """By path; of POST requests."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        work = self.work.get(scope.get("path", ""))
        if work is None or scope["type"] != "http" or scope["method"] != "POST":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await work(scope, receive, send)


@lru_cache(maxsize=64)
def parse_options(kind: type[Options], query: bytes) -> Options:
    """The options that a query string gives; a client's are the same in all its requests.

    Args:
        kind: of options; they are not to be changed.
        query: as it stands in the URL.

    Raises:
        InvalidOption: an option that there is not, or a value that it does not take.
    """
    given = QueryParams(query)
    values = {name: given.getlist(name) for name in given}
    try:
        return kind.model_validate(
            {name: several if len(several) > 1 else several[0] for name, several in values.items()}
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        once = first["type"].endswith("_type") and len(given.getlist(where)) > 1
        raise InvalidOption(f"{where}: {'takes one value' if once else first['msg']}") from error
