"""The OpenAPI document, made from the table of endpoints."""

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from actiontrack._version import __version__
from actiontrack.analysis.options import Options
from actiontrack.web.api.endpoint import IMAGE_TYPES, MEDIA_TYPES, Endpoint
from actiontrack.web.parameters import fields_of, takes_several
from actiontrack.web.routes import PREFIX

__all__ = [
    "openapi",
]


def openapi(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the API, made from its endpoints."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(f"{PREFIX}/api/{endpoint.path}", {})
        operations[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "actiontrack",
            "version": __version__,
            "description": "Action scores and per-sample losses of tracked runs. With a login, "
            "every route obeys the permissions on experiments.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Table": _TABLE_SCHEMA, "Error": _ERROR_SCHEMA},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"basic": []}, {"bearer": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    name = endpoint.path.removesuffix(".json")
    verb = "add" if endpoint.method == "POST" else "get"
    operation: dict[str, Any] = {
        "operationId": f"{verb}_{name}",
        "summary": endpoint.about,
        "parameters": _parameters(endpoint.parameters),
        "responses": _responses(endpoint),
    }
    if endpoint.columns:
        operation["description"] = f"Columns: {', '.join(endpoint.columns)}, and others."
    if endpoint.body:
        kinds = ("application/json", "application/x-www-form-urlencoded")
        content = {kind: {"schema": _schema(endpoint.body)} for kind in kinds}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


class _Schema(GenerateJsonSchema):
    """Schemas without titles, in which absent is the only way to say nothing."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        if schema.get("default") in {None, ()}:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False


def _schema(model: type[Options]) -> dict[str, Any]:
    """What pydantic says of a model."""
    schema = model.model_json_schema(schema_generator=_Schema)
    return {name: schema[name] for name in ("type", "properties", "required") if name in schema}


def _parameters(model: type[Options]) -> list[dict[str, Any]]:
    """The fields of a model as parameters of a query."""
    schema, fields = _schema(model), fields_of(model)
    parameters = []
    for name, described in schema.get("properties", {}).items():
        parameter = {
            "name": name,
            "in": "query",
            "description": described.pop("description"),
            "required": name in schema.get("required", ()),
            "schema": described,
        }
        if takes_several(fields[name]):
            parameter |= {"style": "form", "explode": True}
        parameters.append(parameter)
    return parameters


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    table = {"schema": {"$ref": "#/components/schemas/Table"}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {
        "table": {
            MEDIA_TYPES["json"]: table,
            MEDIA_TYPES["csv"]: {"schema": {"type": "string"}},
            MEDIA_TYPES["parquet"]: binary,
        },
        "image": dict.fromkeys(IMAGE_TYPES, binary),
        "object": {MEDIA_TYPES["json"]: {"schema": {"type": "object"}}},
    }[endpoint.kind]
    good = "201" if endpoint.method == "POST" else "200"
    responses: dict[str, Any] = {good: {"description": endpoint.about, "content": content}}
    if endpoint.method == "GET":
        responses["304"] = {"description": "Nothing has changed since the given ETag."}
    error = {MEDIA_TYPES["json"]: {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status, what in _ERRORS.items():
        responses[status] = {"description": what, "content": error}
    return dict(sorted(responses.items()))


_ERRORS = {
    "400": "A parameter is wrong or unknown.",
    "401": "There is a login, and nobody has logged in.",
    "403": "You have no permission, or the request was made by another site's page.",
    "404": "No such run, record, sample or image.",
    "409": "The runs can't be compared.",
    "422": "The record is damaged, or newer than this server.",
    "500": "The store or the server failed.",
}

_TABLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["columns", "rows", "total", "page", "per_page", "next", "run_ids"],
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}},
        "rows": {
            "type": "array",
            "items": {"type": "array", "items": {}},
            "description": "One list per row; null for what is missing or not finite.",
        },
        "total": {"type": "integer", "description": "Rows of the whole table."},
        "page": {"type": "integer"},
        "per_page": {"type": "integer"},
        "next": {"type": ["string", "null"], "description": "Address of the next page."},
        "run_ids": {"type": "array", "items": {"type": "string"}},
    },
}

_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
