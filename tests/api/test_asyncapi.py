"""The AsyncAPI document and what the server says are one.

Every message that a test of the stream receives is held against its model (`Client.receive` in
`streaming.py`), and here the document against the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from service.api.asyncapi import document
from service.api.messages import ClientMessage, ServerMessage

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = json.loads((DOCS / "asyncapi.json").read_text())


def refs(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for item in part:
            yield from refs(item)
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for item in part.values():
            yield from refs(item)


def resolve(ref: str) -> Any:
    place: Any = DOCUMENT
    for step in ref.removeprefix("#/").split("/"):
        place = place[step]
    return place


def test_the_document_is_what_the_models_make() -> None:
    again = "run `python -m service.api.asyncapi > docs/asyncapi.json`"
    assert document() == DOCUMENT, again


def test_every_reference_leads_somewhere() -> None:
    found = list(refs(DOCUMENT))
    assert len(found) > 30
    for ref in found:
        assert isinstance(resolve(ref), dict)


def test_it_has_the_form_of_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert set(DOCUMENT) <= {
        *("asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations"),
        "components",
    }
    channel = DOCUMENT["channels"]["stream"]
    assert channel["address"] == "/v1/stream"
    said = []
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"] == {"$ref": "#/channels/stream"}
        said += [message["$ref"].rpartition("/")[2] for message in operation["messages"]]
    assert sorted(said) == sorted(channel["messages"])


@pytest.mark.parametrize("model", [*get_args(ClientMessage), *get_args(ServerMessage)])
def test_each_message_is_described_and_told_of(model: Any) -> None:
    message = DOCUMENT["components"]["messages"][model.__name__]
    schema = resolve(message["payload"]["$ref"])
    assert schema["properties"]["type"]["const"] == message["name"]
    assert message["summary"]
    assert f"`{message['name']}`" in (DOCS / "stream.md").read_text()
