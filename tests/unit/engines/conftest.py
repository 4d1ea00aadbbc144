"""A Kubernetes API of dictionaries: the one of tests/unit/kube."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

NAME = "llmd_gke_cluster_fakes"


@pytest.fixture
def fakes() -> Any:
    if NAME not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "kube" / "fakes.py"
        spec = importlib.util.spec_from_file_location(NAME, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    return sys.modules[NAME]
