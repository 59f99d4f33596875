"""The page at `/`: its files in `service/web`, and the headers that bound what it may do."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent.parent / "web"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    # Revalidated by its ETag: a page of one version never runs with a module of another.
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def install(app: FastAPI) -> None:
    """Serve the page; it holds no secret, so that no key is asked for until it makes a request."""
    files = StaticFiles(directory=_FOLDER)
    router = APIRouter(include_in_schema=False)

    async def get(request: Request, name: str = "index.html") -> Response:
        response = await files.get_response(name, request.scope)
        response.headers.update(_HEADERS)
        return response

    router.add_api_route("/", get, name="page")
    router.add_api_route("/web/{name}", get, name="page file")
    app.include_router(router)
