"""Every error code of the cluster half is documented, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs/errors/kubernetes.md"
MODULES = ("gateway_crds", "helm_releases", "gateway_reconcile", "backend_health", "inference_probe", "routing_proof")
MODULES += ("model_routing", "layout_proof", "routing_comparison")
FOLDERS = ("kube", "inference")
# upper-case words in the sources that are no codes
OTHERS = {"AUTH_ARG_SPEC", "CERTIFICATE_VERIFY_FAILED", "HF_TOKEN", "GPUS_ALL_REGIONS", "LLMD_GKE_ENDPOINT_HEADER"}


def used() -> set[str]:
    """Codes in the sources of this half."""
    utils = ROOT / "plugins/module_utils"
    files = [path for folder in FOLDERS for path in (utils / folder).glob("*.py")]
    files += [utils / f"llmd/{name}.py" for name in ("backends", "charts", "deploy", "helm", "helm_errors", "helmfile")]
    files += [utils / f"llmd/{name}.py" for name in ("releases", "rollouts", "capacity", "scaling", "upgrades")]
    files += [ROOT / f"plugins/modules/{name}.py" for name in MODULES]
    found: set[str] = set()
    for path in files:
        found |= set(re.findall(r'"([A-Z]+(?:_[A-Z0-9]+)+)"', path.read_text()))
    return {code for code in found if not code.startswith("K8S_")} - OTHERS


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="the table was merged into the whole list")
def test_the_table_and_the_sources_agree() -> None:
    documented = set(re.findall(r"^\| `([A-Z0-9_]+)`", DOCUMENT.read_text(), re.MULTILINE))
    assert used() - documented == set()
    assert documented - used() == set()
