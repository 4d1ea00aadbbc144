"""The emulated Google Cloud on loopback. No answer of any test may break its own schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.gcp.testing import Cloud, make_cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A project with compute, container and networkservices on."""
    made = make_cloud(tmp_path)
    yield made
    made.server.stop()
    assert made.emulator.violations == []


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Cloud]:
    """A project as a demo starts with: only the base services."""
    made = make_cloud(tmp_path, enabled=[])
    yield made
    made.server.stop()
    assert made.emulator.violations == []
