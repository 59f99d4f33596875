"""The page at `/`: its files in `service/web`, and the headers that bound what it may do."""

from __future__ import annotations

import mimetypes
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

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
    # Kept in memory, for they are small: a server that is busy has no thread free to read files.
    files = {path.name: _read(path) for path in _FOLDER.iterdir()}
    router = APIRouter(include_in_schema=False)

    async def get(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in files:
            raise HTTPException(404)
        body, headers = files[name]
        if headers["etag"] in _known(request):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)

    router.add_api_route("/", get, name="page")
    router.add_api_route("/web/{name}", get, name="page file")
    app.include_router(router)


def _read(path: Path) -> tuple[bytes, dict[str, str]]:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    text = "" if kind.startswith("image/") else "; charset=utf-8"
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    return body, {**_HEADERS, "content-type": f"{kind}{text}", "etag": etag}


def _known(request: Request) -> list[str]:
    """ETags that the client has; a proxy that compresses makes them weak."""
    tags = request.headers.get("if-none-match", "").split(",")
    return [tag.strip().removeprefix("W/") for tag in tags]
