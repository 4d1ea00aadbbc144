"""What the built archive is made of and brings along, as CycloneDX 1.6, and the sums of what ``make build`` wrote.

The archive holds no third-party code. What it installs when it is run is what matters: charts, images and CRDs of each
profile, beside the Python packages and collections that it needs. Images and charts are pinned by version or tag, not
by digest; the document says no more than is known.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from sandbox.paths import REPOSITORY

Json = dict[str, Any]
PROFILES = REPOSITORY / "plugins/plugin_utils/profiles"
# Any fixed one: with it the same archive gets the same serial number.
_NAMESPACE = uuid.UUID("4ac6a8d1-2f4e-5c7e-9d0b-6f1f5f6f3c11")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def document(archive: Path) -> Json:
    """The SBOM of a built archive."""
    galaxy = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text(encoding="utf-8"))
    digest = sha256(archive)
    reference = f"pkg:generic/{galaxy['namespace']}.{galaxy['name']}@{galaxy['version']}"
    needed, installed = list(_requirements()), list(_installed())
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "application",
                "bom-ref": reference,
                "group": galaxy["namespace"],
                "name": galaxy["name"],
                "version": galaxy["version"],
                "description": galaxy["description"],
                "licenses": [{"license": {"id": "GPL-3.0-or-later"}}],
                "purl": f"{reference}?file_name={quote(archive.name)}",
                "hashes": [{"alg": "SHA-256", "content": digest}],
            },
        },
        "components": needed + installed,
        "dependencies": [
            {"ref": reference, "dependsOn": [one["bom-ref"] for one in needed + installed]},
            *({"ref": one["bom-ref"]} for one in needed + installed),
        ],
    }


def _component(kind: str, name: str, version: str, purl: str, scope: str, profiles: list[str]) -> Json:
    found: Json = {"type": kind, "bom-ref": purl, "name": name, "version": version, "scope": scope, "purl": purl}
    if profiles:
        found["properties"] = [{"name": "llmd.gke:profile", "value": profile} for profile in profiles]
    return found


def _requirements() -> Iterator[Json]:
    """What the collection needs to run, in the versions of the execution environment."""
    environment = yaml.safe_load((REPOSITORY / "execution-environment.yml").read_text(encoding="utf-8"))
    dependencies = environment["dependencies"]
    packages = [*dependencies["python"], dependencies["ansible_core"]["package_pip"]]
    for package in sorted(packages):
        name, _, version = package.partition("==")
        yield _component("library", name, version, f"pkg:pypi/{name}@{version}", "required", [])
    for collection in dependencies["galaxy"]["collections"]:
        if collection["name"] != "llmd.gke":
            name, version = collection["name"], str(collection["version"])
            yield _component("library", name, version, f"pkg:generic/{name}@{version}", "required", [])


def _installed() -> Iterator[Json]:
    """What a run installs into a cluster, each once, with the profiles that ask for it."""
    found: dict[str, Json] = {}
    for path in sorted(PROFILES.glob("*.yml")):
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        if profile["layout"] != "helmfile":
            continue
        for one in (*_charts(profile), *_images(profile["images"]), *_crds(profile)):
            known = found.setdefault(one["bom-ref"], one)
            known.setdefault("properties", []).append({"name": "llmd.gke:profile", "value": profile["name"]})
    yield from (found[name] for name in sorted(found))


def _charts(profile: Json) -> Iterator[Json]:
    for chart in profile["charts"].values():
        name, version, repository = chart["name"], str(chart["version"]), chart["repository"]
        purl = f"pkg:helm/{name}@{version}?repository_url={quote(repository, safe='')}"
        yield {
            **_component("application", name, version, purl, "optional", []),
            "externalReferences": [{"type": "distribution", "url": repository}],
        }


def _images(images: Json) -> Iterator[Json]:
    for image in images.values():
        text = image if isinstance(image, str) else f"{image['hub']}/{image['name']}:{image['tag']}"
        parts = re.fullmatch(r"(?P<host>[^/]+)/(?P<path>.+):(?P<tag>[^:/]+)", text)
        assert parts is not None, text
        purl = f"pkg:docker/{parts['path']}@{parts['tag']}?repository_url={parts['host']}"
        yield _component("container", f"{parts['host']}/{parts['path']}", parts["tag"], purl, "optional", [])


def _crds(profile: Json) -> Iterator[Json]:
    for crd in profile["crds"]:
        url = f"{profile['crd_url']}/{crd['file']}"
        purl = f"pkg:generic/{crd['name']}@{crd['version']}?download_url={quote(url, safe='')}"
        yield {
            **_component("file", crd["name"], crd["version"], purl, "optional", []),
            "hashes": [{"alg": "SHA-256", "content": crd["sha256"]}],
            "externalReferences": [{"type": "distribution", "url": url}],
        }


def write(archive: Path) -> list[Path]:
    """The SBOM and the file of sums beside the archive."""
    bom = archive.with_name(archive.name.removesuffix(".tar.gz") + ".cdx.json")
    bom.write_text(json.dumps(document(archive), indent=2) + "\n", encoding="utf-8")
    sums = archive.with_name("SHA256SUMS")
    sums.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in (archive, bom)), encoding="utf-8")
    return [bom, sums]
