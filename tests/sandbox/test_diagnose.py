"""Every symptom of the runbook, planted in a running pattern 1 of a sandbox of this test's own, has its code."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY, Sandbox, ansible_environment, sandbox_name

pytestmark = pytest.mark.sandbox

WORKER = REPOSITORY / "tests/sandbox/diagnose_worker.py"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if os.geteuid() != 0:
        pytest.skip("the sandbox needs root: it makes network namespaces")
    if shutil.which("ansible-playbook") is None:
        pytest.skip("ansible-playbook is not on PATH: run `make test`")
    home = tmp_path_factory.mktemp("home")
    one = Sandbox(ansible_environment(home, {"LLMD_SANDBOX_NAME": sandbox_name("diag")}), home)
    one.environment.setdefault("LLMD_SANDBOX_CACHE", "/var/cache/llmd-gke")
    one.cli("down")
    one.cli("up", "--speed", "0", "--port", "0", timeout=2400)
    try:
        run = one.playbook("playbooks/pattern1.yml")
        assert run.rc == 0, run.output[-4000:]
        yield one
    finally:
        one.cli("down")


def shown(output: str) -> str:
    return re.sub(r"\s+", " ", output)


def test_status_is_one_screen_without_unknowns(deployed: Sandbox) -> None:
    run = deployed.playbook("playbooks/status.yml")
    assert run.rc == 0, run.output[-3000:]
    status = deployed.artifact("status.json")
    assert status["models"] == ["google/gemma-2b-it"]
    assert status["replicas"] == {"wanted": 1, "ready": 1}
    assert status["requests"]["picker"] >= 2  # the verification's
    assert status["nodes"] == {"default-pool": 2, "nvidia-t4-pool": 1}
    assert status["last_verify"]["passed"] is True
    assert status["cost"]["usd"] > 0
    assert status["findings"] == []
    assert status["lease"]["state"] == "none"
    assert None not in (status["queue"], status["kv_cache_use"], status["tokens_per_second"])
    assert "1 of 1 ready" in shown(run.output)


def test_every_symptom_has_its_code(deployed: Sandbox) -> None:
    interpreter = Path(str(shutil.which("ansible-playbook"))).parent / "python"
    python = str(interpreter if interpreter.exists() else sys.executable)
    output = deployed.cli("exec", python, str(WORKER), timeout=300)
    report: dict[str, Any] = json.loads(output[output.index("{") :])
    for row in report["rows"]:
        print(f"{'found' if row['found'] else 'MISSED':6} {row['seconds']:5.1f} s  {row['code']:32} {row['planted']}")
    print(f"{report['looks']} looks, the slowest took {report['slowest']:.1f} s")
    assert report["before"] == []  # a healthy deployment has no finding
    assert [row["planted"] for row in report["rows"] if not row["found"]] == []
    assert report["after"] == []
    assert report["leaked"] == []
    assert report["slowest"] <= 10


def test_a_failed_run_diagnoses_itself_and_fails_with_its_own_error(deployed: Sandbox) -> None:
    run = deployed.playbook("playbooks/pattern1.yml", llmd_model="google/no-such-model", llmd_hf_token="hf_sandbox")
    assert run.rc != 0
    closing = run.output[run.output.rindex("FAILED!") :]
    assert closing.index("HF_MODEL_NOT_FOUND") < closing.index("Diagnosis:")
    assert "MODEL_UNKNOWN" in closing  # what is deployed serves another model
    bundle = deployed.artifact("diagnosis.json")
    assert [finding["code"] for finding in bundle["findings"]] == ["MODEL_UNKNOWN"]
    assert bundle["kubernetes"]["pods"]
    assert "hf_sandbox" not in json.dumps(bundle)
