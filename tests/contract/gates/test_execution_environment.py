"""ansible-builder takes execution-environment.yml and what the collection says about itself; no container is built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from sandbox.paths import REPOSITORY, current

BUILDER = current().venvs / "lint" / "bin" / "ansible-builder"
pytestmark = pytest.mark.skipif(not BUILDER.exists(), reason="not built: ./sandbox/sandbox tools --only gates")


def builder(*words: str, cwd: Path = REPOSITORY) -> str:
    done = subprocess.run([str(BUILDER), *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_build_context_is_made(tmp_path: Path) -> None:
    builder(
        "create", "--context", str(tmp_path), "--output-filename", "Containerfile", "-f", "execution-environment.yml"
    )
    made = (tmp_path / "Containerfile").read_text()
    assert "ansible-core==2.21.5" in made + "".join(path.read_text() for path in (tmp_path / "_build").glob("*.txt"))
    for tool in ("HELM", "HELMFILE", "HELM_DIFF"):
        assert f'ARG {tool}_SHA256=""' in made
    assert "sha256sum --check" in made
    assert "gcloud" not in made


def test_a_missing_checksum_stops_the_build() -> None:
    """The function that fetches, out of the file itself, with a curl that must not be called."""
    steps = yaml.safe_load((REPOSITORY / "execution-environment.yml").read_text())["additional_build_steps"]
    script = next(step for step in steps["append_final"] if step.startswith("RUN")).removeprefix("RUN ")
    script = script.replace("\\\n", "\n")
    done = subprocess.run(
        ["sh", "-c", f"curl() {{ echo fetched >&2; }}\n{script}"],
        env={"PATH": "/usr/bin:/bin", **{f"{tool}_{what}": "" for tool in ("HELM", "HELMFILE", "HELM_DIFF")
             for what in ("SHA256", "URL", "VERSION")}, "TARGETARCH": "amd64", "HELM_PLUGINS": "/nonexistent"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "--build-arg HELM_SHA256=" in done.stderr
    assert "fetched" not in done.stderr


def test_versions_are_those_of_the_toolchain() -> None:
    wanted = yaml.safe_load((REPOSITORY / "execution-environment.yml").read_text())["dependencies"]
    frozen = (REPOSITORY / "sandbox/toolchain/requirements-core-2.21.txt").read_text().splitlines()
    assert wanted["ansible_core"]["package_pip"] in frozen
    assert set(wanted["python"]) <= set(frozen)
    galaxy = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())
    own = next(one for one in wanted["galaxy"]["collections"] if one["name"] == "llmd.gke")
    assert own["version"] == galaxy["version"]
