"""Lists as the APIs give them: filtered, in pages; and the ``fields`` mask of any answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from sandbox.gcp.errors import compute_invalid, invalid_argument

Json = dict[str, Any]
Predicate = Callable[[Json], bool]

_TERM = re.compile(
    r"""\s*(?P<field>[A-Za-z_][\w.\-]*)\s*(?P<operator>!=|>=|<=|=|:|>|<|\beq\b|\bne\b)\s*"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s()]+)\s*"""
)


def compile_filter(text: str) -> Predicate:
    """A list filter: ``field = "value"``, ``!=``, ``:`` (has), ``eq``/``ne`` (regular expressions), AND, parentheses.

    What Google can and this cannot (OR, NOT, functions) is refused like a filter that makes no sense.
    """
    if not text.strip():
        return lambda item: True
    hidden = _hide(text)
    if hidden.count("(") != hidden.count(")"):
        raise compute_invalid("filter", text, "Invalid list filter expression.")
    rest = re.sub(r"[()]", " ", hidden)
    terms: list[Predicate] = []
    position = 0
    while position < len(rest):
        glue = re.compile(r"\s*(?:AND\b\s*)?").match(rest, position)
        position = glue.end() if glue else position
        if position >= len(rest):
            break
        found = _TERM.match(rest, position)
        if found is None or found["operator"] in (">", "<", ">=", "<="):
            raise compute_invalid("filter", text, "Invalid list filter expression.")
        terms.append(_term(found["field"], found["operator"], _show(found["value"])))
        position = found.end()
    return lambda item: all(term(item) for term in terms)


def _hide(text: str) -> str:
    """Parentheses inside quotes are data."""
    return re.sub(r'"[^"]*"', lambda found: found[0].replace("(", "\x01").replace(")", "\x02"), text)


def _show(text: str) -> str:
    value = text.replace("\x01", "(").replace("\x02", ")")
    return value[1:-1] if value[:1] in "\"'" and value[-1:] == value[:1] else value


def _term(field: str, operator: str, value: str) -> Predicate:
    def texts(item: Json) -> list[str]:
        found: Any = item
        for part in field.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        values = found if isinstance(found, list) else [found]
        return [str(one).lower() if isinstance(one, bool) else str(one) for one in values if one is not None]

    def test(item: Json) -> bool:
        values = texts(item)
        if operator in ("eq", "ne"):
            return any(re.fullmatch(value, text) for text in values) is (operator == "eq")
        if operator == ":":
            needle = value.rstrip("*").lower()
            return bool(values) if value == "*" else any(needle in text.lower() for text in values)
        if "*" in value:
            pattern = ".*".join(re.escape(part) for part in value.split("*"))
            return any(re.fullmatch(pattern, text) for text in values) is (operator == "=")
        return (value in values) is (operator == "=")

    return test


def page(items: list[Json], size: str, token: str) -> tuple[list[Json], str | None]:
    """One page of ``items`` and the token of the next."""
    limit = int(size) if size else 500
    if limit < 0 or limit > 500:
        raise compute_invalid("maxResults", size, "Must be between 0 and 500.")
    try:
        start = int(token) if token else 0
    except ValueError as error:
        raise compute_invalid("pageToken", token, "The page token is invalid.") from error
    end = start + (limit or 500)
    return items[start:end], str(end) if end < len(items) else None


def mask(answer: Any, fields: str) -> Any:
    """Apply a ``fields`` mask such as ``items(name,purpose),nextPageToken`` or ``quotas/metric``."""
    if not fields or fields == "*":
        return answer
    tree, rest = _parse_mask(fields)
    if rest:
        raise invalid_argument(f"Invalid field selection {fields}", "invalidParameter")
    return _apply_mask(answer, tree)


def _parse_mask(text: str) -> tuple[Json, str]:
    tree: Json = {}
    while text and text[0] != ")":
        found = re.match(r"[\w*.\-]+", text)
        if found is None:
            raise invalid_argument(f"Invalid field selection {text}", "invalidParameter")
        name, text = found[0], text[found.end() :]
        child: Json = {}
        if text[:1] == "/":
            head, separator, tail = _split_top(text[1:])
            child, _ = _parse_mask(head)
            text = separator + tail
        elif text[:1] == "(":
            child, text = _parse_mask(text[1:])
            if text[:1] != ")":
                raise invalid_argument("Invalid field selection", "invalidParameter")
            text = text[1:]
        tree[name] = child
        if text[:1] != ",":
            break
        text = text[1:]
    return tree, text


def _split_top(text: str) -> tuple[str, str, str]:
    """Up to the next comma or closing parenthesis of this level."""
    depth = 0
    for index, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0 or (character == "," and depth == 0):
            return text[:index], text[index], text[index + 1 :]
    return text, "", ""


def _apply_mask(answer: Any, tree: Json) -> Any:
    if not tree or ("*" in tree and not tree["*"]):
        return answer
    if isinstance(answer, list):
        return [_apply_mask(item, tree) for item in answer]
    if not isinstance(answer, dict):
        return answer
    result = {}
    for key, value in answer.items():
        child = tree.get(key, tree.get("*"))
        if child is not None:
            result[key] = _apply_mask(value, child)
    return result


def select(items: Iterable[Json], filter_text: str) -> list[Json]:
    predicate = compile_filter(filter_text)
    return [item for item in items if predicate(item)]
