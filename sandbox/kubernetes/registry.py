"""Every container registry of the world, as far as the sandbox's nodes can tell: read-only, filled from OCI tars.

containerd asks here for any registry's images (hosts.toml ``_default``) and names the registry it means in the query
parameter ``ns``. What no tar holds does not exist: 404 as a registry says it, which a pod shows as ErrImagePull.
Protocol: OCI distribution specification 1.1, its pull part.
"""

from __future__ import annotations

import contextlib
import json
import re
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sandbox.kubernetes.ociimage import MANIFEST, Blob, read_layout
from sandbox.timing import REAL_SECONDS, Timing

# An image may name an event of sandbox.timing whose duration its pull takes (annotation in the tar's index.json).
TIMING_ANNOTATION = "llmd.sandbox/pull-timing"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_SLICES = 20


@dataclass
class Catalog:
    """What is served: manifests by ``host/repository:tag`` and digest, blobs by digest."""

    manifests: dict[str, str] = field(default_factory=dict)  # full reference -> digest
    types: dict[str, str] = field(default_factory=dict)  # digest of a manifest -> media type
    blobs: dict[str, Blob] = field(default_factory=dict)
    slow: dict[str, str] = field(default_factory=dict)  # digest of a layer -> event of sandbox.timing

    def add(self, path: Path) -> None:
        """Add every image of an OCI tar; a file that is none is left out."""
        try:
            images, blobs = read_layout(path)
        except (OSError, ValueError, KeyError, tarfile.TarError):
            return
        self.blobs.update(blobs)
        for image in images:
            self.types[image.digest] = image.media_type
            self.manifests.update(dict.fromkeys(image.references, image.digest))
            event = image.annotations.get(TIMING_ANNOTATION)
            if event in REAL_SECONDS:
                self.slow.update(dict.fromkeys(self._layers(image.digest), event))

    def resolve(self, host: str | None, repository: str, reference: str) -> str | None:
        """Digest of a manifest by tag or digest; without ``host`` the repository of any registry counts."""
        if reference in self.types or (":" in reference and reference in self.blobs):
            return reference
        if host:
            return self.manifests.get(f"{host}/{repository}:{reference}")
        wanted = f"/{repository}:{reference}"
        return next((digest for name, digest in self.manifests.items() if name.endswith(wanted)), None)

    def _layers(self, digest: str) -> list[str]:
        manifest = json.loads(self.blobs[digest].read())
        return [layer["digest"] for layer in manifest.get("layers", [])]


class Registry:
    """Serves ``*.tar`` of some folders; looks again whenever they changed."""

    def __init__(self, folders: list[Path], timing: Timing) -> None:
        self._folders = folders
        self._timing = timing
        self._lock = threading.Lock()
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._catalog = Catalog()

    def catalog(self) -> Catalog:
        """The catalogue of the folders as they are now."""
        found = []
        for path in sorted(path for folder in self._folders for path in folder.glob("*.tar")):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((str(path), status.st_size, status.st_mtime_ns))
        with self._lock:
            if tuple(found) != self._seen:
                self._catalog = Catalog()
                for name, _, _ in found:
                    self._catalog.add(Path(name))
                self._seen = tuple(found)
            return self._catalog

    def pull_seconds(self, digest: str) -> float:
        """How long the download of this layer shall take."""
        event = self.catalog().slow.get(digest)
        return self._timing.seconds(event) if event else 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "sandbox-registry"
    registry: Registry

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *arguments: object) -> None:
        """No access log: kubelets poll."""

    def _answer(self, *, body: bool) -> None:
        url = urllib.parse.urlsplit(self.path)
        if url.path in ("/v2", "/v2/"):
            self._send(b"{}", "application/json", None, body)
            return
        match = _PATH.fullmatch(url.path)
        if match is None:
            self._missing("NAME_UNKNOWN", "no such address", body)
            return
        catalog = self.registry.catalog()
        reference = urllib.parse.unquote(match["reference"])
        if match["kind"] == "blobs":
            if reference in catalog.blobs:
                self._send(catalog.blobs[reference].read(), "application/octet-stream", reference, body)
            else:
                self._missing("BLOB_UNKNOWN", "blob unknown to registry", body)
            return
        host = urllib.parse.parse_qs(url.query).get("ns", [None])[0]
        digest = catalog.resolve(host, urllib.parse.unquote(match["name"]), reference)
        if digest is None or digest not in catalog.blobs:
            self._missing("MANIFEST_UNKNOWN", "manifest unknown", body)
            return
        self._send(catalog.blobs[digest].read(), catalog.types.get(digest, MANIFEST), digest, body)

    def _missing(self, code: str, message: str, body: bool) -> None:
        content = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._send(content, "application/json", None, body, status=404)

    def _send(self, content: bytes, media_type: str, digest: str | None, body: bool, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if digest:
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("Etag", f'"{digest}"')
        self.end_headers()
        if body:
            self._write(content, self.registry.pull_seconds(digest) if digest else 0.0)

    def _write(self, content: bytes, seconds: float) -> None:
        """All at once, or in even slices: a client gives up on a download that makes no progress."""
        if seconds <= 0:
            self.wfile.write(content)
            return
        step = max(1, -(-len(content) // _SLICES))
        for start in range(0, len(content), step):
            time.sleep(seconds / _SLICES)
            self.wfile.write(content[start : start + step])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle is no event worth a traceback."""


def serve(folders: list[Path], address: str, port: int, timing: Timing | None = None) -> Callable[[], None]:
    """Serve in a thread; the returned function ends it. OSError when the address cannot be bound."""
    registry = Registry(folders, timing or Timing(0))
    handler = type("Handler", (_Handler,), {"registry": registry})
    try:
        server = _Server((address, port), handler)
    except OSError as error:
        where = "this must run in the fabric's namespace, and nothing else may listen there"
        raise OSError(error.errno, f"cannot listen on {address}:{port} ({error.strerror}): {where}") from error
    thread = threading.Thread(target=server.serve_forever, name="registry", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
