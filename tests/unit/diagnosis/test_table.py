"""docs/diagnosis.md says which symptom has which rule: every row is proven where it says so, every proof has a row."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| .+ \| .+ \| `([A-Z0-9_]+)` \| (planted|shown) \|$", re.M)


def faults() -> set[str]:
    """Codes of the faults that the unit tests put into an observation."""
    spec = importlib.util.spec_from_file_location("diagnosis_rules", Path(__file__).with_name("test_rules.py"))
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return set(module.FAULTS)


needs_the_proofs = pytest.mark.skipif(
    not (ROOT / "tests/sandbox").is_dir(), reason="the built archive holds no sandbox tests"
)


def planted() -> set[str]:
    """Codes that the worker of the sandbox test expects."""
    text = (ROOT / "tests/sandbox/diagnose_worker.py").read_text(encoding="utf-8")
    return set(re.findall(r'"([A-Z]+(?:_[A-Z0-9]+)+|UNAUTHENTICATED)"', text)) - {
        "HF_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
    }


@needs_the_proofs
def test_every_row_has_its_proof() -> None:
    rows = ROW.findall((ROOT / "docs/diagnosis.md").read_text(encoding="utf-8"))
    assert len(rows) == len({code for code, _proof in rows}) > 60
    assert {code for code, proof in rows if proof == "planted"} - planted() == set()
    assert {code for code, proof in rows if proof == "shown"} - faults() == set()


@needs_the_proofs
def test_every_planted_symptom_has_a_row() -> None:
    rows = {code for code, _proof in ROW.findall((ROOT / "docs/diagnosis.md").read_text(encoding="utf-8"))}
    names = {name for name in planted() if name.startswith(("LLMD_", "K8S_", "REPOSITORY", "KUBECONFIG"))}
    assert planted() - rows - names == set()
