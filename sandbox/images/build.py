"""Builds the sandbox's container images: nearly empty OCI archives under the upstream names.

``python -m sandbox.images.build [--output DIR] [--python PROGRAM] [--repository DIR] [--pause PROGRAM] [--all]``

A container sees the host's userland, the sandbox's virtual environment and the repository's ``sandbox`` folder
read-only at the host's paths (the node's runtime mounts them), so an image holds only the command to run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import paths
from sandbox.images.endpoint_picker.generation import ENV_GENERATION
from sandbox.images.oci import Image, write

PAUSE = "registry.k8s.io/pause:3.10"


@dataclass(frozen=True)
class Name:
    """An upstream image name, the stand-in behind it, and whether today's stand-in models that very version."""

    name: str
    role: str
    modelled: bool = True
    generation: str = ""  # of the Gateway API inference extension, where it is not the first one modelled


NAMES = (
    Name("ghcr.io/llm-d/llm-d-cuda:v0.4.0", "model-server"),
    Name("ghcr.io/llm-d/llm-d-inference-scheduler:v0.4.0", "endpoint-picker"),
    Name("ghcr.io/llm-d/llm-d-cuda:v0.6.0", "model-server"),
    Name("ghcr.io/llm-d/llm-d-inference-scheduler:v0.7.0", "endpoint-picker", generation="v1.4.0"),
    Name("registry.k8s.io/gateway-api-inference-extension/bbr:v1.2.0", "body-router"),
    Name("registry.k8s.io/gateway-api-inference-extension/bbr:v1.4.0", "body-router", generation="v1.4.0"),
    Name("docker.io/envoyproxy/envoy:distroless-v1.33.2", "envoy"),
    Name("ghcr.io/llm-d/llm-d-routing-sidecar:v0.4.0", "routing-sidecar"),
    Name("ghcr.io/llm-d/llm-d-routing-sidecar:v0.7.1", "routing-sidecar", generation="v1.4.0"),
    Name("registry.k8s.io/lws/lws:v0.7.0", "lws"),
    Name("gcr.io/gke-release/custom-metrics-stackdriver-adapter:v0.15.1-gke.0", "metrics-adapter"),
    # Names answered by the stand-ins of v0.4.0. Built with --all only.
    Name("ghcr.io/llm-d/llm-d-cuda:v0.5.0", "model-server", modelled=False),
    Name("ghcr.io/llm-d/llm-d-inference-scheduler:v0.5.0", "endpoint-picker", modelled=False),
)

_LABELS = {"org.opencontainers.image.description": "llmd.gke sandbox stand-in; not the upstream image"}
# A pull of this image takes what such a pull takes (an event of sandbox.timing), where the node pulls it at all.
_LARGE = {"llmd.sandbox/pull-timing": "image-pull"}
# The host's /usr hides the image's own /usr/local/bin, so the script lies in a folder that nothing is mounted over too.
_SCRIPT_FOLDERS = ("opt/llmd/bin", "usr/local/bin")


@dataclass(frozen=True)
class Host:
    """Where a container finds things: the venv's interpreter and the repository, both at the host's own paths."""

    python: str
    repository: str
    environment: Mapping[str, str]
    envoy: str = "envoy"

    def common(self) -> dict[str, str]:
        return {
            "PATH": f"/{_SCRIPT_FOLDERS[0]}:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": self.repository,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_ENDPOINT": f"http://{paths.HUB_ADDRESS}",
            **self.environment,
        }


def model_server(name: str, host: Host) -> Image:
    """An image whose ``vllm`` command is the stand-in (the chart overrides the entrypoint by ``vllm serve``)."""
    script = f'#!/bin/sh\nexec {shlex.quote(host.python)} -P -m sandbox.images.model_server "$@"\n'.encode()
    files = {f"{folder}/vllm": script for folder in _SCRIPT_FOLDERS}
    return Image(name, (f"/{_SCRIPT_FOLDERS[0]}/vllm",), host.common(), files, _LABELS, _LARGE)


def endpoint_picker(name: str, host: Host) -> Image:
    """An image whose entrypoint is the picker stand-in (the chart gives arguments only)."""
    return _program(name, host, "sandbox.images.endpoint_picker")


def body_router(name: str, host: Host) -> Image:
    """An image whose entrypoint is the body-based router's stand-in."""
    return _program(name, host, "sandbox.images.body_router")


def routing_sidecar(name: str, host: Host) -> Image:
    """An image whose entrypoint is the sidecar's stand-in; the chart wants it not to run as root."""
    return _program(name, host, "sandbox.images.routing_sidecar", user="65532:65532")


def _program(name: str, host: Host, module: str, *, user: str = "") -> Image:
    generation = next((entry.generation for entry in NAMES if entry.name == name), "")
    environment = {**host.common(), **({ENV_GENERATION: generation} if generation else {})}
    return Image(name, (host.python, "-P", "-m", module), environment, {}, _LABELS, user=user)


def envoy(name: str, host: Host) -> Image:
    """No stand-in: an image whose entrypoint is a real Envoy, the one of the toolchain whatever the name's version."""
    return Image(name, (host.envoy,), host.common(), {}, _LABELS)


def lws(name: str, host: Host) -> Image:
    """An image with the program ``/manager``: the LeaderWorkerSet controller's stand-in, not run as root."""
    script = f'#!/bin/sh\nexec {shlex.quote(host.python)} -P -m sandbox.lws "$@"\n'.encode()
    return Image(name, ("/manager",), host.common(), {"manager": script}, _LABELS, user="65532:65532")


def metrics_adapter(name: str, host: Host) -> Image:
    """An image with the program ``/adapter``: the stand-in of Google's adapter of custom metrics."""
    script = f'#!/bin/sh\nexec {shlex.quote(host.python)} -P -m sandbox.images.metrics_adapter "$@"\n'.encode()
    return Image(name, ("/adapter",), host.common(), {"adapter": script}, _LABELS)


def pause(program: Path) -> Image:
    """The pod sandbox's image: one static program, and none of the host's folders."""
    return Image(PAUSE, ("/pause",), {}, {"pause": program.read_bytes()}, _LABELS, folders=())


def build(output: Path, host: Host, *, pause_program: Path | None, everything: bool = False) -> list[Path]:
    """Write all archives; their paths. ``pause_program`` None leaves the pause image out."""
    makers = {
        "model-server": model_server,
        "endpoint-picker": endpoint_picker,
        "body-router": body_router,
        "envoy": envoy,
        "routing-sidecar": routing_sidecar,
        "lws": lws,
        "metrics-adapter": metrics_adapter,
    }
    images = [makers[entry.role](entry.name, host) for entry in NAMES if entry.modelled or everything]
    if pause_program is not None:
        images.append(pause(pause_program))
    return [write(image, output) for image in images]


def _environment(words: Sequence[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    return {key: value for key, _, value in pairs}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where the pause program is missing (everything else is still written)."""
    here = paths.current()
    parser = argparse.ArgumentParser(prog="python -m sandbox.images.build", description=__doc__)
    parser.add_argument("--output", type=Path, default=here.cache / "images")
    parser.add_argument("--python", default=None, help="interpreter in the containers (default: the sandbox venv's)")
    parser.add_argument("--repository", default=str(paths.REPOSITORY))
    parser.add_argument("--pause", type=Path, default=here.bin / "pause")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="add to every stand-in")
    parser.add_argument("--all", action="store_true", help="later versions' names too")
    given = parser.parse_args(arguments)
    # The venv's real folder: a mount of the link's target is what the node makes.
    python = given.python or os.path.join(os.path.realpath(here.venvs / "sandbox"), "bin", "python")
    host = Host(python, given.repository, _environment(given.env), os.path.realpath(here.envoy))
    there = given.pause.exists()
    for path in build(given.output, host, pause_program=given.pause if there else None, everything=given.all):
        print(path)
    if not there:
        print(f"{given.pause} is missing: no {PAUSE} was written, no pod can start without it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
