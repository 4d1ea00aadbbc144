"""Checks JSON against discovery schemas and says what is wrong in the words of Google's JSON front end.

The same walk normalises a request: snake_case names become lowerCamel, nulls (proto3: "unset") disappear, 64-bit
numbers become strings as Google answers them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sandbox.gcp.discovery import Document, Method

Json = dict[str, Any]
Violation = tuple[str, str]  # field path, text

# Taken by every method although the documents do not say so. returnPartialSuccess left compute's documents in the
# 2026-11 revision; shipped clients still send it and the API still takes it.
EXTRA_QUERY = {
    "$apiVersion", "$alt", "$prettyPrint", "$fields", "$key", "$userProject", "enum-encoding", "returnPartialSuccess",
}  # fmt: skip
INTEGER = re.compile(r"-?\d+")
LONG_FORMATS = ("int64", "uint64", "fixed64")
TEXT_FORMATS = {
    "google-datetime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"),
    "google-duration": re.compile(r"-?\d+(\.\d{1,9})?s"),
}


@lru_cache(maxsize=4096)
def snake(name: str) -> str:
    """``ipCidrRange`` -> ``ip_cidr_range``, as protobuf names it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def check_query(method: Method, query: Mapping[str, Sequence[str]]) -> list[Violation]:
    """What is wrong with the query parameters."""
    found: list[Violation] = []
    for name, values in query.items():
        spec = method.query.get(name)
        if spec is None:
            if name not in method.document.parameters and name not in EXTRA_QUERY:
                text = (
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                    f"Field '{name}' could not be found in request message."
                )
                found.append(("", text))
            continue
        if len(values) > 1 and not spec.get("repeated"):
            found.append((name, f"Invalid value at '{snake(name)}' (repeated), \"{values[-1]}\""))
        found.extend(
            (name, f"Invalid value at '{snake(name)}' ({kind}), \"{value}\"")
            for value in values
            if (kind := _query_fault(spec, value))
        )
    return found


def _query_fault(spec: Json, value: str) -> str | None:
    if spec.get("type") == "boolean" and value.lower() not in ("true", "false"):
        return "TYPE_BOOL"
    if spec.get("type") == "integer" and not INTEGER.fullmatch(value):
        return "TYPE_INT32"
    if "enum" in spec and value not in spec["enum"]:
        return "TYPE_ENUM"
    return None


def read_request(method: Method, body: Any) -> tuple[Json, list[Violation]]:
    """Normalised body and what is wrong with it. A method without a body takes none or ``{}``."""
    walk = _Walk(method.document)
    if method.request is None:
        unknown = body if isinstance(body, dict) else {}
        return {}, [
            ("", f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.') for name in unknown
        ]
    value = walk.value({"$ref": method.request}, {} if body is None else body, "", "")
    return value if isinstance(value, dict) else {}, walk.violations


def check_response(method: Method, body: Any) -> list[Violation]:
    """How one of our own answers differs from the method's response schema."""
    if method.response is None:
        return []
    return check_resource(method.document, method.response, body)


def check_resource(document: Document, schema: str, body: Any) -> list[Violation]:
    """How ``body`` differs from a named schema of ``document``. Answers must use the exact names."""
    walk = _Walk(document, strict=True)
    walk.value({"$ref": schema}, body, "", "")
    return walk.violations


class _Walk:
    def __init__(self, document: Document, *, strict: bool = False) -> None:
        self.document = document
        self.strict = strict
        self.violations: list[Violation] = []

    def value(self, schema: Json, value: Any, path: str, owner: str) -> Any:
        """Check ``value``, return it normalised. ``owner`` is the message that holds the field, for enum names."""
        if value is None and not self.strict:
            return None
        if "$ref" in schema:
            schema = self.document.schemas[schema["$ref"]]
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, value, path)
        if kind == "array":
            return self._array(schema, value, path, owner)
        fault, value = self._scalar(schema, value, path, owner)
        if fault:
            self._bad(path, fault, value)
        return value

    def _bad(self, path: str, kind: str, value: Any) -> None:
        self.violations.append((path, f"Invalid value at '{path}' ({kind}), {json.dumps(value)}"))

    def _object(self, schema: Json, value: Any, path: str) -> Any:
        name = str(schema.get("id", "object"))
        if not isinstance(value, dict):
            self._bad(path, self._type(name), value)
            return value
        properties: dict[str, Json] = schema.get("properties", {})
        free = schema.get("additionalProperties")
        result: Json = {}
        for key, item in value.items():
            field = key if key in properties else self._from_snake(properties, key)
            below = f"{path}.{snake(key)}" if path else snake(key)
            if field is not None:
                normal = self.value(properties[field], item, below, f"{name}.{field[0].upper()}{field[1:]}")
            elif free is not None:
                field, normal = key, self.value(free, item, f"{path}[{key!r}]" if path else key, name)
            else:
                at = f" at '{path}'" if path else ""
                text = f'Invalid JSON payload received. Unknown name "{key}"{at}: Cannot find field.'
                self.violations.append((path, text))
                continue
            if normal is not None:
                result[field] = normal
        return result

    def _from_snake(self, properties: dict[str, Json], key: str) -> str | None:
        if self.strict or "_" not in key:
            return None
        return next((name for name in properties if snake(name) == key), None)

    def _array(self, schema: Json, value: Any, path: str, owner: str) -> Any:
        if not isinstance(value, list):
            self._bad(path, "repeated", value)
            return value
        return [self.value(schema["items"], item, f"{path}[{index}]", owner) for index, item in enumerate(value)]

    def _scalar(self, schema: Json, value: Any, path: str, owner: str) -> tuple[str | None, Any]:
        kind, form = schema.get("type"), schema.get("format")
        if kind == "boolean":
            if isinstance(value, str) and value in ("true", "false") and not self.strict:
                return None, value == "true"
            return (None if isinstance(value, bool) else "TYPE_BOOL"), value
        if kind == "integer":
            return self._integer(value, "TYPE_UINT32" if form == "uint32" else "TYPE_INT32", int)
        if kind == "number":
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
            return (None if good else "TYPE_DOUBLE"), value
        if kind == "string" and form in LONG_FORMATS:
            return self._integer(value, "TYPE_INT64", str)
        if kind == "string":
            return self._string(schema, value, owner), value
        return None, value  # "any"

    def _integer(self, value: Any, kind: str, result: type[int] | type[str]) -> tuple[str | None, Any]:
        if self.strict and not isinstance(value, result):
            return kind, value
        if isinstance(value, bool) or not INTEGER.fullmatch(str(value)):
            return kind, value
        return None, result(value)

    def _string(self, schema: Json, value: Any, owner: str) -> str | None:
        if not isinstance(value, str):
            # proto3 JSON takes an enum by number.
            return None if "enum" in schema and type(value) is int and not self.strict else "TYPE_STRING"
        if "enum" in schema and value and value not in schema["enum"]:
            return self._type(owner)
        form = schema.get("format")
        if form == "byte":
            try:
                base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
            except (binascii.Error, ValueError):
                return "TYPE_BYTES"
        pattern = TEXT_FORMATS.get(str(form))
        if pattern is not None and value and not pattern.fullmatch(value):
            return f"type.googleapis.com/google.protobuf.{'Duration' if form == 'google-duration' else 'Timestamp'}"
        return None

    def _type(self, name: str) -> str:
        return f"type.googleapis.com/google.{self.document.api}.{self.document.version}.{name}"
