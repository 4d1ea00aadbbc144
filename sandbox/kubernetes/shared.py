"""What all nodes of a sandbox share: the containers' base spec, the registry's address file, the pause image."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

from sandbox.kubernetes import ociimage, render
from sandbox.kubernetes.ociimage import read_layout
from sandbox.paths import REPOSITORY, Paths

_USERLAND = ("/usr", "/lib", "/lib64", "/bin")


class MissingTool(RuntimeError):
    """Something that the toolchain should have provided is not there."""


def folder(paths: Paths) -> Path:
    return paths.clusters / "shared"


def base_spec_file(paths: Paths) -> Path:
    return folder(paths) / "base-spec.json"


def registry_hosts_folder(paths: Paths) -> Path:
    """containerd's ``config_path``."""
    return folder(paths) / "registry"


def image_folders(paths: Paths) -> list[Path]:
    """Where the registry's OCI tars are: the built images, then the sandbox's own pause image."""
    return [(paths.cache / "images").resolve(), folder(paths) / "images"]


def prepare(paths: Paths) -> None:
    """Write all of it. Raises MissingTool with what is missing."""
    hosts = registry_hosts_folder(paths) / "_default" / "hosts.toml"
    hosts.parent.mkdir(parents=True, exist_ok=True)
    hosts.write_text(render.registry_hosts(), encoding="utf-8")
    _prepare_pause(paths)
    try:
        done = subprocess.run(["ctr", "oci", "spec"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MissingTool("ctr is not installed (Debian package containerd)") from None
    if done.returncode != 0:
        raise MissingTool(f"ctr oci spec: {done.stderr.strip()}")
    spec = render.base_spec(json.loads(done.stdout), container_folders(paths))
    base_spec_file(paths).write_text(json.dumps(spec), encoding="utf-8")


def container_folders(paths: Paths) -> list[str]:
    """The machine's folders that every container sees read-only, so that images can be (nearly) empty.

    Its userland, the virtual environments, the interpreter they were made of, and the stand-ins' code.
    """
    # A cache may borrow environments from another one by links: a container needs what the links lead to.
    borrowed = sorted({str(path.resolve()) for path in paths.venvs.glob("*")})
    interpreters = [str(paths.venvs), *borrowed, sys.prefix, sys.base_prefix, *_venv_homes(paths)]
    wanted = [*_USERLAND, *interpreters, str(REPOSITORY / "sandbox")]
    chosen: list[str] = []
    for path in wanted:
        inside = any(path == outer or path.startswith(outer + "/") for outer in chosen)
        if not inside and Path(path).is_dir():
            chosen.append(path)
    return chosen


def _venv_homes(paths: Paths) -> list[str]:
    """Prefixes of the interpreters behind the virtual environments (``home`` in pyvenv.cfg is their bin folder)."""
    homes = []
    for config in sorted(paths.venvs.glob("*/pyvenv.cfg")):
        for line in config.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                homes.append(str(Path(value.strip()).resolve().parent))
    return homes


def _prepare_pause(paths: Paths) -> None:
    if any(render.PAUSE_IMAGE in _references(path) for path in (paths.cache / "images").glob("*.tar")):
        return
    program = paths.bin / "pause"
    if not program.is_file():
        raise MissingTool(f"neither an image {render.PAUSE_IMAGE} nor {program} is there: build the tools first")
    target = folder(paths) / "images" / "pause.tar"
    target.parent.mkdir(parents=True, exist_ok=True)
    ociimage.write_image(target, render.PAUSE_IMAGE, ["/pause"], files={"pause": program.read_bytes()})


def _references(path: Path) -> set[str]:
    try:
        images, _ = read_layout(path)
    except (OSError, ValueError, KeyError, tarfile.TarError):
        return set()
    return {reference for image in images for reference in image.references}
