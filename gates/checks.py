"""The gates of ``make lint``, as data."""

from __future__ import annotations

import subprocess
import tempfile
from functools import partial
from pathlib import Path

from gates import ansible_test, artifact
from gates.running import Check, GateError, Tools
from sandbox.paths import REPOSITORY
from sandbox.toolchain.venvs import CORES

# What may end up in the archive (a test compares): checks of the archive depend on these and on nothing else.
SHIPPED = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "galaxy.yml", "changelogs"),
    *("collections", "docs", "extensions", "inventories", "tests/prometheus.py"),
    *("meta", "playbooks", "plugins", "roles", "tests/unit", "execution-environment.yml"),
)
_CONFIGURATION = ("pyproject.toml", ".ansible-lint", ".yamllint")
_LINT = "requirements-lint.txt"


def _ruff(tools: Tools) -> None:
    tools.must("ansible", ["ruff", "check", "."])
    tools.must("ansible", ["ruff", "format", "--check", "."])


def _yamllint(tools: Tools) -> None:
    tools.must("ansible", ["yamllint", "--strict", "."])


def _ansible_lint(tools: Tools) -> None:
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections")}
    tools.must("ansible", ["ansible-lint", "--strict", "--nocolor"], environment=collections)


def _mypy(tools: Tools, *packages: str, path: str = "") -> None:
    # A cache of its own for each: two mypys side by side must not write the same one.
    cache = tools.folder / f"mypy-{packages[0]}"
    tools.must(
        "ansible", ["mypy", "--cache-dir", str(cache), *packages], environment={"MYPYPATH": path} if path else {}
    )


def shell_scripts() -> list[str]:
    """Every committed file (or new one, unless ignored) whose first line names sh or bash."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    found = []
    for name in filter(None, listed.split("\0")):
        path = REPOSITORY / name
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as stream:
            first = stream.readline(80)
        if first.startswith(b"#!") and first.split()[-1].rpartition(b"/")[2] in (b"sh", b"bash", b"dash"):
            found.append(name)
    return found


def _shellcheck(tools: Tools) -> None:
    scripts = shell_scripts()
    if not scripts:
        raise GateError("No shell script was found: shellcheck looked at nothing.")
    tools.must("lint", ["shellcheck", "--norc", "--external-sources", "--severity", "style", *scripts])


def _changelog(tools: Tools) -> None:
    tools.must("lint", ["antsibull-changelog", "lint"])


def _docs(tools: Tools) -> None:
    with tempfile.TemporaryDirectory(prefix="llmd-docs-") as folder:
        installed = artifact.tree(tools, Path(folder))
        command = ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "dependent"]
        path = tools.environment("lint", "core-2.21")["PATH"]  # it calls ansible-doc; the bundle would be read too
        environment = {"PATH": path, "ANSIBLE_COLLECTIONS_PATH": folder, "HOME": folder}
        tools.must("lint", [*command, str(installed)], environment=environment)


def _introspect(tools: Tools) -> None:
    """What ansible-builder reads out of the collection's own metadata, as an execution environment's build does."""
    with tempfile.TemporaryDirectory(prefix="llmd-builder-") as folder:
        artifact.tree(tools, Path(folder))
        said = tools.must("lint", ["ansible-builder", "introspect", "--sanitize", folder])
    for word in ("google-auth", "kubernetes", "requests"):
        if word not in said:
            raise GateError(f"ansible-builder finds no {word} in the collection's metadata.", details=said)


def _workflows(tools: Tools) -> None:
    """The workflow files of forks are not run here: they are YAML, and their commands are targets of the Makefile."""
    tools.must("ansible", ["python", "-m", "gates.workflows"], environment={"PYTHONPATH": str(REPOSITORY)})


CHECKS: tuple[Check, ...] = (
    Check("ruff", (".",), _ruff, weight=2),
    Check("yamllint", (".",), _yamllint, weight=15),
    Check("ansible-lint", (*SHIPPED, *_CONFIGURATION, "awx", "collections"), _ansible_lint, weight=60),
    Check("mypy-sandbox", ("sandbox", "pyproject.toml"), lambda tools: _mypy(tools, "sandbox", "gates"), weight=30),
    Check(
        "mypy-plugins",
        ("plugins", "pyproject.toml"),
        lambda tools: _mypy(tools, "plugins", path="playbooks/collections"),
        weight=30,
    ),
    Check("shellcheck", (".",), _shellcheck, pins=(_LINT,), weight=3),
    Check("changelog", ("changelogs", "galaxy.yml", "CHANGELOG.md", "plugins"), _changelog, pins=(_LINT,), weight=3),
    Check("docs", SHIPPED, _docs, pins=(_LINT,), weight=12),
    Check("execution-environment", (*SHIPPED, "execution-environment.yml"), _introspect, pins=(_LINT,), weight=5),
    Check("workflows", (".github", "Makefile"), _workflows, weight=1),
    *(
        Check(
            f"sanity-{core}",
            SHIPPED,
            partial(ansible_test.sanity, core=core),
            pins=(f"requirements-{core}.txt",),
            weight=100,
        )
        for core in CORES
    ),
    *(
        Check(
            f"units-{core}",
            SHIPPED,
            partial(ansible_test.units, core=core),
            pins=(f"requirements-{core}.txt",),
            weight=90,
        )
        for core in CORES
    ),
)
