"""The service as OpenAPI 3.1: the input columns, the answers and the options of the champion."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from .bounds import MAX_ROWS
from .champions import Champion

Schema: TypeAlias = dict[str, Any]

# By MLflow's type. A category takes what JSON has: `1` is read as the level 1.
TYPES: dict[str, list[str]] = {
    "double": ["number", "null"],
    "float": ["number", "null"],
    "long": ["integer"],
    "integer": ["integer"],
    "boolean": ["boolean"],
    "string": ["string", "number", "boolean", "null"],
    "datetime": ["string"],
}
PATHS = {
    "/health": "200 while the process runs.",
    "/ready": "200 while a champion is loaded and requests are answered.",
    "/ping": "As /ready; MLflow's name.",
    "/version": "The champion that answers: model, version, digest.",
    "/metrics": "Counters in the text format of Prometheus.",
    "/openapi.json": "This document.",
}


def document(champion: Champion) -> Schema:
    """The OpenAPI document of a service with this champion."""
    interface = champion.interface
    schemas = {
        "Row": table_schema(interface.types, interface.required),
        "Answer": table_schema(interface.answers, frozenset()),
        "Params": _params(champion),
        "Request": _request(champion),
        "Response": {
            "type": "object",
            "required": ["predictions", "model", "version", "digest"],
            "properties": {
                "predictions": {"type": "array", "items": _reference("Answer")},
                "model": {"type": "string"},
                "version": {"type": "string"},
                "digest": {"type": "string"},
            },
        },
        "Error": {
            "type": "object",
            "required": ["error_code", "message"],
            "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
        },
    }
    paths: Schema = {"/invocations": {"post": _invocations()}}
    for path, purpose in PATHS.items():
        paths[path] = {"get": {"summary": purpose, "responses": {"200": {"description": purpose}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": champion.name, "version": champion.version.version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def table_schema(types: Mapping[str, str], required: frozenset[str]) -> Schema:
    """One row of a table with these types of MLflow; a type that JSON lacks allows everything."""
    properties: Schema = {}
    for name, kind in types.items():
        properties[name] = {"type": TYPES[kind]} if kind in TYPES else {}
    return {"type": "object", "properties": properties, "required": sorted(required)}


def _params(champion: Champion) -> Schema:
    properties: Schema = {}
    for name, default in champion.interface.options.items():
        kind = champion.interface.option_types[name]
        properties[name] = {"type": TYPES.get(kind, ["string"])[0], "default": default}
    return {"type": "object", "properties": properties}


def _request(champion: Champion) -> Schema:
    names = {"type": "array", "items": {"enum": list(champion.interface.types)}}
    rows = {"type": "array", "items": {"type": "array"}, "maxItems": MAX_ROWS}
    records = {"type": "array", "items": _reference("Row"), "maxItems": MAX_ROWS}
    split = {
        "type": "object",
        "required": ["data"],
        "properties": {"columns": names, "data": rows, "index": {"type": "array"}},
    }
    return {
        "type": "object",
        "description": "Rows in one of these forms, and options.",
        "properties": {
            "dataframe_records": records,
            "dataframe_split": split,
            "instances": records,
            "inputs": {"description": "Columns by name, or records."},
            "params": _reference("Params"),
        },
        "minProperties": 1,
    }


def _invocations() -> Schema:
    json_content = {"application/json": {"schema": _reference("Response")}}
    error = {"application/json": {"schema": _reference("Error")}}
    csv = {"schema": {"type": "string", "description": "A table with a header."}}
    return {
        "summary": "Answer rows.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _reference("Request")}, "text/csv": csv},
        },
        "responses": {
            "200": {
                "description": "The answers, in the order of the rows.",
                "content": json_content,
            },
            "4XX": {"description": "What was wrong, in one line.", "content": error},
        },
    }


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
