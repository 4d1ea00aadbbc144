"""What `ansible-test sanity` refuses most easily, told in a second instead of minutes; `make lint` runs the whole."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NOT_SHIPPED = ("awx", "gates", "sandbox_")
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
SHIPPED = [
    *PLUGINS,
    *sorted((ROOT / "tests").glob("*.py")),
    *(
        path
        for path in sorted((ROOT / "tests/unit").rglob("*.py"))
        if not path.relative_to(ROOT / "tests/unit").parts[0].startswith(NOT_SHIPPED)
    ),
]
# Sent to a Python that may have nothing but Ansible's own libraries.
SENT = {path for path in PLUGINS if path.parts[len(ROOT.parts) + 1] in ("module_utils", "modules")}
_PLUGINS = set(PLUGINS)
AUTHOR = re.compile(r"^author:\n  - .+ \(@[\w-]+\)$", re.MULTILINE)
STARTS = ("run", "Popen", "call", "check_call", "check_output")
ALLOWED = "disable=ansible-bad-function"
QUOTES = re.compile("[\u2018\u2019\u201c\u201d]")


def starts_a_program(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "subprocess" and node.attr in STARTS


def findings(path: Path) -> Iterator[str]:
    """What is wrong with a file, in sentences with what to do."""
    text = path.read_text(encoding="utf-8")
    if QUOTES.search(text):
        yield "a quote that is not ASCII: write \" or '."
    tree = ast.parse(text)
    imported = {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    if path in SENT and "yaml" in imported:
        yield "PyYAML may be missing there: take ansible.module_utils.common.yaml."
    for node in ast.walk(tree):
        at = f"line {getattr(node, 'lineno', 0)}: "
        if (isinstance(node, ast.Name) and node.id == "_") or (isinstance(node, ast.arg) and node.arg == "_"):
            yield at + "the name _ is kept for translations: write _unused."
        if path in _PLUGINS and isinstance(node, ast.Assert):
            yield at + "assert is left out under python -O: raise an error."
        if path in SENT and isinstance(node, ast.Attribute) and starts_a_program(node) and ALLOWED not in text:
            yield at + f"a program in a module: use run_command, or say at the top why not (pylint: {ALLOWED})."


def test_nothing_that_ansibles_own_checks_refuse() -> None:
    assert [f"{path.relative_to(ROOT)}: {one}" for path in SHIPPED for one in findings(path)] == []


def test_a_modules_author_has_a_handle() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "plugins/modules").glob("*.py")}
    assert [name for name, text in texts.items() if not AUTHOR.search(text)] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [("for _ in range(3):\n    pass\n", "_unused"), ("x = '\u201c'\n", "ASCII"), ("def f(_):\n    pass\n", "_unused")],
)
def test_a_breach_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(text, encoding="utf-8")
    assert [says in found for found in findings(path)] == [True]
