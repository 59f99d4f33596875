"""`docs/asyncapi.json`, made of the models of the messages: `python -m service.api.asyncapi`."""

from __future__ import annotations

import json
import sys
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import service
from service.api.messages import ClientMessage, ServerMessage
from service.api.stream import SUBPROTOCOL

_CLIENT: tuple[type[BaseModel], ...] = get_args(ClientMessage)
_SERVER: tuple[type[BaseModel], ...] = get_args(ServerMessage)
_SCHEMAS = "#/components/schemas/"


def document() -> dict[str, Any]:
    """The protocol of `/v1/stream` as AsyncAPI 3.0.0."""
    modes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in _CLIENT),
        *((model, "serialization") for model in _SERVER),
    ]
    refs, schemas = models_json_schema(modes, ref_template=f"{_SCHEMAS}{{model}}")
    messages = {model.__name__: _message(model, refs[model, mode]) for model, mode in modes}
    messages["Frame"] = {
        "summary": "One frame: an encoded image, in a binary message.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mien",
            "version": service.__version__,
            "description": "Frames in, faces out; docs/stream.md tells how. "
            f"The subprotocol is `{SUBPROTOCOL}`.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": {"local": {"host": "127.0.0.1:8000", "protocol": "ws"}},
        "channels": {
            "stream": {
                "address": "/v1/stream",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {
            "receive": _operation("receive", ["Frame", *(model.__name__ for model in _CLIENT)]),
            "send": _operation("send", [model.__name__ for model in _SERVER]),
        },
        "components": {"messages": messages, "schemas": _draft_7(schemas["$defs"])},
    }


def _message(model: type[BaseModel], payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": model.model_fields["type"].annotation.__args__[0],  # type: ignore[union-attr]
        "summary": (model.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "payload": payload,
    }


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    """What the server does."""
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in names],
    }


def _draft_7(schema: Any) -> Any:
    """AsyncAPI's schemas are draft 7, in which `prefixItems` was a form of `items`."""
    if isinstance(schema, list):
        return [_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {("items" if k == "prefixItems" else k): _draft_7(v) for k, v in schema.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")
