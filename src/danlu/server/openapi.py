"""The OpenAPI document: FastAPI's, with the errors that really come, the key, and the refused values of fields.py."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"}, "type": {"type": "string"},
                "param": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "code": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["message", "type", "param", "code"],
        },
    },
    "required": ["error"],
}  # fmt: skip
STATUSES = {
    "400": "The request is wrong; param names the field.", "401": "The key is missing or unknown.",
    "403": "The host or origin is not let in.", "404": "There is no such model or route.", "408": "The body came too slowly.",
    "413": "The body is too large.", "500": "The server failed.", "503": "Too much waits, or the server is starting or stopping.",
    "504": "The answer took too long.",
}  # fmt: skip


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=(__doc__ or "").split("\n")[0])
        parts = made.setdefault("components", {})
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        parts.setdefault("schemas", {})["Error"] = ERROR
        for name in ("HTTPValidationError", "ValidationError"):
            parts["schemas"].pop(name, None)
        for path, methods in made["paths"].items():
            for operation in methods.values():
                _operation(path, operation)
        for schema in parts["schemas"].values():
            for field in schema.get("properties", {}).values():
                _field(field)
        app.openapi_schema = made
    return app.openapi_schema


def _operation(path: str, operation: dict[str, Any]) -> None:
    """Say what errors look like and that a key is needed."""
    operation["responses"].pop("422", None)
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    if path == "/health":
        operation["responses"]["503"] = {
            "description": "Not ready.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
        return
    operation["security"] = [{"key": []}]
    for status, what in STATUSES.items():
        operation["responses"][status] = {"description": what, "content": body}


def _field(field: dict[str, Any]) -> None:
    """Values that ask for something not done here are no part of the schema."""
    accepted = field.pop("x-accepts", None)
    because = field.pop("x-because", None)
    if accepted is not None:
        field.pop("anyOf", None)
        field.pop("type", None)
        field["enum"] = accepted
        field["description"] = f"{field.get('description', '')} Nothing else: {because}.".strip()
