"""The SBOM says what a run brings into a cluster, each thing once, and the sums are those of the files."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import yaml

from gates import sbom
from sandbox.paths import REPOSITORY


def archive(folder: Path, content: bytes = b"x") -> Path:
    path = folder / "llmd-gke-1.2.3.tar.gz"
    path.write_bytes(content)
    return path


def test_it_names_everything_that_deployable_profiles_pin(tmp_path: Path) -> None:
    document = sbom.document(archive(tmp_path))
    named = {(one["name"].rsplit("/", 1)[-1], one["version"]) for one in document["components"]}
    for path in (REPOSITORY / "plugins/plugin_utils/profiles").glob("*.yml"):
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        wanted = {(chart["name"], str(chart["version"])) for chart in profile["charts"].values()}
        wanted |= {(crd["name"], crd["version"]) for crd in profile["crds"]}
        for image in profile["images"].values():
            text = image if isinstance(image, str) else f"{image['name']}:{image['tag']}"
            name, _, tag = text.rpartition(":")
            wanted.add((name.rsplit("/", 1)[-1], tag))
        assert wanted <= named or profile["layout"] != "helmfile", wanted - named
    assert {"google-auth", "kubernetes", "requests", "ansible-core", "kubernetes.core"} <= {name for name, _ in named}


def test_references_are_one_of_a_kind_and_lead_somewhere(tmp_path: Path) -> None:
    document = sbom.document(archive(tmp_path))
    references = [one["bom-ref"] for one in document["components"]]
    assert len(references) == len(set(references))
    root = document["metadata"]["component"]["bom-ref"]
    assert {one["ref"] for one in document["dependencies"]} == {*references, root}
    assert set(document["dependencies"][0]["dependsOn"]) == set(references)


def test_the_same_archive_gives_the_same_document(tmp_path: Path) -> None:
    first = sbom.document(archive(tmp_path))
    assert sbom.document(archive(tmp_path)) == first
    assert sbom.document(archive(tmp_path, b"y"))["serialNumber"] != first["serialNumber"]


def test_sums_are_those_of_the_files(tmp_path: Path) -> None:
    bom, sums = sbom.write(archive(tmp_path))
    done = subprocess.run(
        ["sha256sum", "--check", sums.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    hashes = json.loads(bom.read_text())["metadata"]["component"]["hashes"]
    assert hashes == [{"alg": "SHA-256", "content": hashlib.sha256(b"x").hexdigest()}]
