"""The page and its files over HTTP: what they may do, how they are kept, what is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import service
from tests.api.conftest import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEB = Path(service.__file__).parent / "web"


async def test_it_is_bounded_by_headers(client):
    for path in ("/", "/web/app.js", "/web/style.css"):
        headers = (await client.get(path)).headers
        policy = dict(
            part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["permissions-policy"].startswith("camera=(self)")


async def test_it_is_revalidated(client):
    first = await client.get("/")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-security-policy" in again.headers


async def test_every_file_it_names_is_there_and_none_is_elsewhere(client):
    for path in WEB.iterdir():
        answer = await client.get(f"/web/{path.name}")
        assert answer.content == path.read_bytes()
        for name in re.findall(r'(?:from|href=|src=) ?"([^"#]+)"', path.read_text()):
            assert not re.match(r"\w+:|//", name)
            target = name.removeprefix("./").removeprefix("web/")
            assert (WEB / target).is_file(), (path.name, name)


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapi%2fpage.py", "../api/page.py", "%00", ""])
async def test_other_files_are_not_given(client, name):
    answer = await client.get(f"/web/{name}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("query", ["name=app.js", "name=nothing.js"])
async def test_a_query_is_no_name(client, query):
    page = (await client.get("/")).content
    assert (await client.get(f"/?{query}")).content == page
    assert (await client.get(f"/web/app.js?{query}")).content == (WEB / "app.js").read_bytes()


async def test_it_is_only_read(client):
    assert (await client.head("/")).status_code == 200
    assert (await client.post("/")).status_code == 405


async def test_it_needs_no_key_itself():
    async with served(api_keys=("secret",)) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/web/app.js")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
