"""OCI tars and the registry that serves them."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.kubernetes.ociimage import MANIFEST, read_layout, write_image
from sandbox.kubernetes.registry import Catalog, Registry, _Handler, _Server
from sandbox.timing import Timing

NAME = "ghcr.io/llm-d/llm-d-cuda:v0.4.0"


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.tar", NAME, ["/pause"], files={"pause": b"program"})
    return tmp_path / "a.tar"


def test_every_blob_is_its_digest(tar: Path) -> None:
    images, blobs = read_layout(tar)
    assert [image.references for image in images] == [(NAME,)]
    assert len(blobs) == 3
    for digest, blob in blobs.items():
        assert "sha256:" + hashlib.sha256(blob.read()).hexdigest() == digest
    manifest = json.loads(blobs[images[0].digest].read())
    assert manifest["layers"][0]["digest"] in blobs
    assert json.loads(blobs[manifest["config"]["digest"]].read())["config"]["Entrypoint"] == ["/pause"]


def test_catalog_resolves_by_registry_tag_and_digest(tar: Path) -> None:
    catalog = Catalog()
    catalog.add(tar)
    digest = catalog.resolve("ghcr.io", "llm-d/llm-d-cuda", "v0.4.0")
    assert digest is not None
    assert catalog.resolve(None, "llm-d/llm-d-cuda", "v0.4.0") == digest
    assert catalog.resolve("ghcr.io", "llm-d/llm-d-cuda", digest) == digest
    assert catalog.resolve("docker.io", "llm-d/llm-d-cuda", "v0.4.0") is None
    assert catalog.resolve("ghcr.io", "llm-d/llm-d-cuda", "v0.4.1") is None


def test_a_file_that_is_no_image_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(b"nonsense")
    catalog = Catalog()
    catalog.add(tmp_path / "b.tar")
    assert not catalog.manifests


def test_new_and_changed_tars_are_seen(tar: Path, tmp_path: Path) -> None:
    registry = Registry([tmp_path, tmp_path / "absent"], Timing(0))
    assert set(registry.catalog().manifests) == {NAME}
    write_image(tmp_path / "c.tar", "registry.k8s.io/pause:3.10", ["/pause"])
    assert set(registry.catalog().manifests) == {NAME, "registry.k8s.io/pause:3.10"}
    os.unlink(tar)
    assert set(registry.catalog().manifests) == {"registry.k8s.io/pause:3.10"}


def test_modelled_pull_time_of_layers_only(tar: Path) -> None:
    catalog = Catalog()
    catalog.add(tar)
    assert not catalog.slow
    digest = catalog.manifests[NAME]
    layers = catalog._layers(digest)
    catalog.slow.update(dict.fromkeys(layers, "image-pull"))
    assert digest not in catalog.slow


@pytest.fixture
def address(tar: Path) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"registry": Registry([tar.parent], Timing(0))})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_pull_over_http(address: str) -> None:
    base = f"{address}/v2/llm-d/llm-d-cuda"
    with urllib.request.urlopen(f"{base}/manifests/v0.4.0?ns=ghcr.io") as answer:
        assert answer.headers["Content-Type"] == MANIFEST
        digest = answer.headers["Docker-Content-Digest"]
        manifest = json.loads(answer.read())
    head = urllib.request.Request(f"{base}/manifests/{digest}?ns=ghcr.io", method="HEAD")
    with urllib.request.urlopen(head) as answer:
        assert answer.read() == b""
        assert int(answer.headers["Content-Length"]) > 0
    for part in (manifest["config"], *manifest["layers"]):
        with urllib.request.urlopen(f"{base}/blobs/{part['digest']}?ns=ghcr.io") as answer:
            assert len(answer.read()) == part["size"]
    with urllib.request.urlopen(f"{address}/v2/") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/nobody/nothing/manifests/v1?ns=ghcr.io", "MANIFEST_UNKNOWN"),
        ("/v2/llm-d/llm-d-cuda/manifests/v0.4.0?ns=quay.io", "MANIFEST_UNKNOWN"),
        ("/v2/a/blobs/sha256:00", "BLOB_UNKNOWN"),
        ("/other", "NAME_UNKNOWN"),
    ],
)
def test_what_is_not_there_is_a_registrys_404(address: str, path: str, code: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(address + path)
    assert caught.value.code == 404
    assert json.loads(caught.value.read())["errors"][0]["code"] == code
