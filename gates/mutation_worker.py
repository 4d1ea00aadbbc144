"""Run tests against one mutated file after another, each in a fork of a process that has the libraries loaded.

Reads JSON lines {"file", "source", "tests"} and answers each with {"killed", "how"}. It runs in a copy of the checkout,
where the file is really changed, so that modules started as programs are mutated too.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

PATIENCE = 300  # seconds; a mutant that makes a test hang counts as noticed


def _child(tests: list[str]) -> None:
    import pytest

    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", *tests]))
    os._exit(code)


def run(tests: list[str]) -> tuple[bool, str]:
    """Whether the tests notice what was changed, and how it ended."""
    child = os.fork()
    if child == 0:
        try:
            _child(tests)
        finally:
            os._exit(70)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            # 1: a test failed; 2: a file of tests could not even be loaded. The unchanged source gives 0.
            return code in (1, 2), f"pytest's exit code {code}"
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True, "a test did not end"


def main() -> None:
    """Serve until standard input ends."""
    for name in ("pytest", "requests", "kubernetes.client", "google.auth", "ansible.plugins.loader", "jinja2", "yaml"):
        importlib.import_module(name)

    sys.path.insert(0, os.getcwd())
    for line in sys.stdin:
        order = json.loads(line)
        path = Path(order["file"])
        original = path.read_text(encoding="utf-8")
        path.write_text(order["source"], encoding="utf-8")
        try:
            killed, how = run(order["tests"])
        finally:
            path.write_text(original, encoding="utf-8")
        print(json.dumps({"killed": killed, "how": how}), flush=True)


if __name__ == "__main__":
    main()
