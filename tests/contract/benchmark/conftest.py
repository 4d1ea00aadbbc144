"""One mock server for all tests here: a process of its own on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark import mock_server

    settings = mock_server.Settings(ttft=0.04, itl=0.004, jitter=0.1, slow=30.0)
    with mock_server.running(settings) as found:
        yield found


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"
