"""Every code that only a diagnosis gives is documented with it; the others are documented where they come from."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "plugins/module_utils/llmd/diagnosis"
CODE = re.compile(r"[A-Z]+(?:_[A-Z0-9]+)+")


def documented(name: str) -> set[str]:
    return set(re.findall(r"^\| `([A-Z0-9_]+)`", (ROOT / f"docs/errors/{name}.md").read_text(), re.MULTILINE))


def given() -> set[str]:
    """First arguments of ``Problem`` and ``code=`` of errors."""
    found: set[str] = set()
    for path in SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            first = node.args[:1] if getattr(node.func, "id", "") in ("Problem", "_known") else []
            for value in [*first, *(key.value for key in node.keywords if key.arg == "code")]:
                options = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
                found |= {option.value for option in options if isinstance(option, ast.Constant)}
    return {code for code in found if isinstance(code, str) and CODE.fullmatch(code)}


def test_own_codes_and_their_table_agree() -> None:
    elsewhere = documented("google-cloud") | documented("kubernetes")
    assert documented("diagnosis") == given() - elsewhere
