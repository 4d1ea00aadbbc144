"""The documented way of keeping the token in Secret Manager: google.cloud's lookup, by its production address."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

DOCUMENTATION = Path(__file__).resolve().parents[3] / "docs" / "secrets.md"


def call(emulated: Any, path: str, body: dict[str, Any]) -> None:
    token = Path(emulated.environment["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
    url = f"{emulated.url}/secretmanager.googleapis.com/v1/projects/llmd-sandbox/{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def expression() -> str:
    """The lookup exactly as the documentation has it."""
    text = DOCUMENTATION.read_text(encoding="utf-8")
    return "{{ lookup(" + text.split("{{ lookup(", 1)[1].split("}}", 1)[0] + "}}"


def test_the_documented_lookup(emulated: Any, tmp_path: Path) -> None:
    pytest.importorskip("ansible_collections.google.cloud")
    emulated.control("services", {"enable": ["secretmanager.googleapis.com"]})
    call(emulated, "secrets?secretId=hf-token", {"replication": {"automatic": {}}})
    for value in (b"hf_old", b"hf_from_secret_manager"):
        call(emulated, "secrets/hf-token:addVersion", {"payload": {"data": base64.b64encode(value).decode()}})
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLMD_", "ANSIBLE_"))}
    environment = {**kept, **emulated.proxy, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HOME": str(tmp_path)}
    program = Path(sys.executable).with_name("ansible")
    words = [str(program), "localhost", "-m", "debug", "-a", f"msg={expression()}", "-e", "llmd_project=llmd-sandbox"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hf_from_secret_manager" in done.stdout
