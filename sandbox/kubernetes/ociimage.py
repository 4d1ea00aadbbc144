"""A one-layer OCI image as a tar (OCI image layout 1.0), and the references such tars hold."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_NAME = "io.containerd.image.name"
_REFERENCE = "org.opencontainers.image.ref.name"
_FOLDERS = ("tmp", "proc", "sys", "dev", "etc", "root", "run", "var", "usr", "lib", "lib64", "bin")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """This machine's architecture in OCI's (Go's) words."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def write_image(
    path: Path,
    reference: str,
    entrypoint: Sequence[str],
    *,
    files: Mapping[str, bytes] | None = None,
    environment: Sequence[str] = (),
) -> None:
    """Write the image ``reference`` (``host/repository:tag``) to ``path``: empty folders, the executable ``files``."""
    layer = _layer(files or {})
    settings = {"Entrypoint": list(entrypoint), "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", *environment]}
    root = {"type": "layers", "diff_ids": [_digest(layer)]}
    config = _json({"architecture": architecture(), "os": "linux", "config": settings, "rootfs": root})
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    names = {_NAME: reference, _REFERENCE: reference.rpartition(":")[2]}
    index = _json({"schemaVersion": 2, "manifests": [{**_descriptor(MANIFEST, manifest), "annotations": names}]})
    temporary = path.with_name(path.name + ".tmp")
    with tarfile.open(temporary, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", index)
        for blob in (layer, config, manifest):
            _add(tar, "blobs/sha256/" + _digest(blob).partition(":")[2], blob)
    temporary.rename(path)


@dataclass(frozen=True)
class Blob:
    """A piece of an image: where its bytes are in the tar."""

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class Image:
    """One entry of a tar's index: ``references`` are full names with tag."""

    references: tuple[str, ...]
    digest: str
    media_type: str
    annotations: Mapping[str, str]


def read_layout(path: Path) -> tuple[list[Image], dict[str, Blob]]:
    """Images and blobs (by digest) of an OCI tar. TarError, KeyError or ValueError for any other file."""
    blobs: dict[str, Blob] = {}
    index: dict[str, Any] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if name == "index.json":
                content = tar.extractfile(member)
                index = json.loads(content.read()) if content else {}
            elif name.startswith("blobs/") and member.isfile():
                algorithm, _, value = name.removeprefix("blobs/").partition("/")
                blobs[f"{algorithm}:{value}"] = Blob(path, member.offset_data, member.size)
    images = []
    for entry in index["manifests"]:
        annotations = entry.get("annotations") or {}
        names = (annotations.get(_NAME, ""), annotations.get(_REFERENCE, ""))
        references = tuple(dict.fromkeys(name for name in names if "/" in name))
        images.append(Image(references, entry["digest"], entry.get("mediaType", MANIFEST), annotations))
    return images, blobs


def _layer(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in _FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            folder.mode = 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n")
        for name, content in files.items():
            _add(tar, name.lstrip("/"), content, mode=0o755)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
