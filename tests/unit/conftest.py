"""Fixtures from kube/fakes.py, for every folder that tests what talks to a cluster."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_PATH = Path(__file__).resolve().parent / "kube" / "fakes.py"


def _load() -> Any:
    name = "llmd_gke_cluster_fakes"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _PATH)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def fakes() -> Any:
    """The module with FakeApi, FakeClock, event, condition, run_module."""
    return _load()


@pytest.fixture
def api(fakes: Any) -> Any:
    return fakes.FakeApi()


@pytest.fixture
def clock(fakes: Any) -> Any:
    return fakes.FakeClock()


@pytest.fixture
def client(api: Any) -> Any:
    from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient

    return KubeClient(api)
