"""What the OpenAPI page says of each address."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from dataflow.http.requests import DEADLINE

DESCRIPTION = (
    "Runs items through a flow: as JSON, or as tensors of the Open Inference Protocol, version 2. A request that fails "
    "is told which stage failed on which item, and a number under which the server has logged the rest."
)

_HEADER = {
    "name": DEADLINE,
    "in": "header",
    "required": False,
    "description": "Seconds from the request's arrival within which it is to be done.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["type", "message"],
    "properties": {
        "type": {"type": "string", "description": "The name of the error's type."},
        "message": {"type": "string"},
        "stage": {"type": "string", "description": "The stage that failed."},
        "item": {"type": "integer", "description": "The number of the item in the request, from 0."},
        "id": {"type": "string", "description": "Under which the server has logged it."},
    },
}
_FAILED = {"type": "object", "required": ["error"], "properties": {"error": _ERROR}}
_FAILED_BY_PROTOCOL = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_ANY: dict[str, Any] = {"description": "Any JSON that the flow takes, or gives."}
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}, "description": "The first counts the items."},
        "datatype": {"type": "string", "examples": ["FP32", "INT64", "BYTES"]},
        "data": {"type": "array", "items": {}, "description": "In row-major order, flat or nested."},
        "parameters": {"type": "object"},
    },
}
_STATUSES = {
    400: "It is not JSON, or not what this address takes.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body does not say that it is JSON.",
    422: "It is not what this address takes, or too many items, or nested too deep.",
    500: "A stage failed, or its result cannot be written.",
    503: "Too much is under way, or it is being shut down; come again after Retry-After.",
    504: "The deadline has passed.",
}


def _content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _route(summary: str, answer: dict[str, Any], tag: str, **more: Any) -> dict[str, Any]:
    """Return what FastAPI is told of an address. It parses no body and checks no answer: both are ours."""
    responses = {200: _content(answer, "Done."), **more.pop("responses", {})}
    return {"summary": summary, "tags": [tag], "response_class": Response, "responses": responses, **more}


def _takes(body: dict[str, Any], failed: dict[str, Any]) -> dict[str, Any]:
    """Return what FastAPI is told of an address that takes items."""
    return {
        "responses": {status: _content(failed, text) for status, text in _STATUSES.items()},
        "openapi_extra": {
            "parameters": [_HEADER],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        },
    }


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_TEXT = {"type": "string"}
_TRUTH = {"type": "boolean"}
_LIST: dict[str, Any] = {"type": "array", "items": {}}
_TENSORS = {"type": "array", "items": _TENSOR}
_OIP = "Open Inference Protocol"

_SEVERAL = {"type": "array", "items": _ANY}
_RESULTS = {"type": "array", "items": {"anyOf": [_ANY, _FAILED]}}
_PLACES = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "Whose places hold an error; if there are any.",
}

ITEMS = _route(
    "Run one item, or several",
    {"oneOf": [_object("result", result=_ANY), _object("results", results=_RESULTS, failed=_PLACES)]},
    "JSON",
    **_takes({"oneOf": [_object("item", item=_ANY), _object("items", items=_SEVERAL)]}, _FAILED),
)
LIVE = _route("Are requests answered?", _object("live", live=_TRUTH), _OIP)
READY = _route("Can items be run?", _object("ready", live=_TRUTH, ready=_TRUTH), _OIP)
SERVER = _route("What answers here", _object("name", name=_TEXT, version=_TEXT, extensions=_LIST), _OIP)
MODEL = _route(
    "What is known of the model",
    _object("name", "platform", name=_TEXT, versions=_LIST, platform=_TEXT, inputs=_LIST, outputs=_LIST),
    _OIP,
)
MODEL_READY = _route("Can items be run?", _object("name", "ready", name=_TEXT, ready=_TRUTH), _OIP)
INFER = _route(
    "Run the items of tensors",
    _object("model_name", "outputs", model_name=_TEXT, model_version=_TEXT, id=_TEXT, outputs=_TENSORS),
    _OIP,
    **_takes(_object("inputs", id=_TEXT, inputs=_TENSORS, outputs=_LIST), _FAILED_BY_PROTOCOL),
)
