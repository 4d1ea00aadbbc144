"""Codes are an interface: every one that this part can give is documented, and nothing else is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|UNAUTHENTICATED|STOCKOUT")


def sources() -> list[Path]:
    plugins = REPOSITORY / "plugins"
    modules = [*plugins.glob("modules/gcp_*.py"), *plugins.glob("modules/gke_*.py")]
    model = plugins.glob("module_utils/llmd/fit*.py")
    return [*plugins.glob("module_utils/gcp/*.py"), *model, *modules]


def constants(node: ast.expr) -> Iterator[str]:
    """String constants that an expression may have as its value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)


def given_codes() -> set[str]:
    """``code=...`` of errors, arguments of ``Case`` (1st), ``Check`` (4th), ``Verdict`` (5th), assigned ``code``."""
    found: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else ""
                position = {"Case": 0, "Check": 3, "Verdict": 4}.get(name)
                if position is not None and len(node.args) > position:
                    found.update(constants(node.args[position]))
                found.update(code for key in node.keywords if key.arg == "code" for code in constants(key.value))
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("code", "error.code"):
                found.update(constants(node.value))
    return {code for code in found if CODE.fullmatch(code)}


def test_codes_and_their_documentation_agree() -> None:
    table = REPOSITORY / "docs" / "errors" / "google-cloud.md"
    if not table.exists():
        pytest.skip("merged into docs/errors.md, whose own test compares")
    documented = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", table.read_text(), re.MULTILINE))
    assert given_codes() == documented
