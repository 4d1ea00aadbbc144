"""Pattern 1 with Google's own URLs: no endpoint override anywhere, everything through the sandbox's TLS proxy.

What works here has the right addresses for a real project. A sandbox of its own, as it starts from an empty project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import Sandbox, sandbox_name

pytestmark = pytest.mark.sandbox


@pytest.fixture
def proxied(sandbox: Sandbox, tmp_path: Path) -> Iterator[Sandbox]:
    """An own sandbox whose playbooks are given no endpoint, only a proxy and its certificate authority."""
    environment = {**sandbox.environment, "LLMD_SANDBOX_NAME": sandbox_name("proxied")}
    own = replace(sandbox, environment=environment, home=tmp_path, runs=[])
    own.cli("down")
    own.cli("up", "--speed", "0", "--port", "0")
    try:
        yield replace(own, environment={**environment, "LLMD_SANDBOX_ACCESS": "proxy", "HOME": str(tmp_path)})
    finally:
        own.cli("down")


def test_pattern1_by_production_urls(proxied: Sandbox) -> None:
    state = Path(json.loads(proxied.cli("status", "--json"))["environment_file"]).with_name("environment.proxy")
    given = state.read_text(encoding="utf-8")
    assert "_ENDPOINT_" not in given
    assert "HTTPS_PROXY=" in given
    run = proxied.playbook("playbooks/pattern1.yml")
    assert run.rc == 0, run.output[-3000:]
    again = proxied.playbook("playbooks/pattern1.yml")
    assert (again.rc, again.count("changed")) == (0, 0), again.output[-3000:]
