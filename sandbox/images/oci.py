"""OCI image archives from a handful of files: one layer, one manifest, the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"

# Mount points that the node binds the host's userland to, and what every Linux program expects.
FOLDERS = ("bin", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sys", "tmp", "usr", "var")
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"


@dataclass(frozen=True)
class Image:
    """An image to be. ``files``: path in the image (no leading slash) to content; all become executable."""

    name: str
    entrypoint: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)  # of the archive's index entry
    folders: Sequence[str] = FOLDERS
    architecture: str = "amd64"
    user: str = ""  # empty: root

    @property
    def file_name(self) -> str:
        """``ghcr.io/llm-d/llm-d-cuda:v0.4.0`` -> ``llm-d-cuda_v0.4.0.tar``."""
        return self.name.rsplit("/", 1)[-1].replace(":", "_") + ".tar"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _add(archive: tarfile.TarFile, path: str, content: bytes | None, mode: int) -> None:
    entry = tarfile.TarInfo(path)  # owner 0, time 0: the archive depends on its content alone
    entry.mode = mode
    if content is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def layer(image: Image) -> bytes:
    """The image's file system as an uncompressed tar."""
    parents = {str(parent) for path in image.files for parent in Path(path).parents} - {"."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in sorted({*image.folders, *parents, "etc"}):
            _add(archive, folder, None, 0o1777 if folder == "tmp" else 0o755)
        _add(archive, "etc/passwd", _PASSWD, 0o644)
        for path, content in sorted(image.files.items()):
            _add(archive, path, content, 0o755)
    return buffer.getvalue()


def archive(image: Image) -> bytes:
    """The image as an OCI layout in a tar, as ``ctr images import`` takes it."""
    content = layer(image)
    config = _encode(
        {
            "architecture": image.architecture,
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entrypoint),
                "Env": [f"{key}={value}" for key, value in image.environment.items()],
                "Labels": dict(image.labels),
                "WorkingDir": "/",
                **({"User": image.user} if image.user else {}),
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(content)]},
        }
    )
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": _LAYER, "digest": digest(content), "size": len(content)}],
        }
    )
    entry = {
        "mediaType": _MANIFEST,
        "digest": digest(manifest),
        "size": len(manifest),
        "platform": {"architecture": image.architecture, "os": "linux"},
        "annotations": {
            **image.annotations,
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
        },
    }
    index = _encode({"schemaVersion": 2, "manifests": [entry]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as whole:
        _add(whole, "oci-layout", _encode({"imageLayoutVersion": "1.0.0"}), 0o644)
        _add(whole, "index.json", index, 0o644)
        for folder in ("blobs", "blobs/sha256"):
            _add(whole, folder, None, 0o755)
        for blob in sorted({content, config, manifest}):
            _add(whole, "blobs/sha256/" + digest(blob).removeprefix("sha256:"), blob, 0o644)
    return buffer.getvalue()


def write(image: Image, folder: Path) -> Path:
    """Write the archive below ``folder`` (by rename; an unchanged one is left alone) and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target, data = folder / image.file_name, archive(image)
    if not target.exists() or target.read_bytes() != data:
        temporary = folder / f".{image.file_name}.{os.getpid()}"
        temporary.write_bytes(data)
        temporary.rename(target)
    return target
