"""The collection as users get it: built by ansible-galaxy, installed by ansible-galaxy, looked at from there."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gates.running import GateError, Tools
from sandbox.paths import REPOSITORY

LIMIT = 1024 * 1024  # bytes of the archive
NAMESPACE, NAME = "llmd", "gke"


def build(tools: Tools, output: Path) -> Path:
    """Build the archive into ``output`` and return its path. Raises ``GateError`` when it is too large."""
    output.mkdir(parents=True, exist_ok=True)
    with _own_home() as home:
        command = ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(output), str(REPOSITORY)]
        tools.must("ansible", command, environment=home)
    archive = max(output.glob(f"{NAMESPACE}-{NAME}-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    size = archive.stat().st_size
    if size >= LIMIT:
        raise GateError(
            f"{archive.name} has {size} bytes; fewer than {LIMIT} are allowed.",
            "list it (tar tvzf) and add what users do not need to build_ignore in galaxy.yml",
        )
    return archive


def install(tools: Tools, archive: Path, collections: Path) -> Path:
    """Install the archive below ``collections`` without Galaxy; the folder of the installed collection."""
    with _own_home() as home:
        command = ["ansible-galaxy", "collection", "install", str(archive), "-p", str(collections)]
        # --force: the playbooks' own link makes the collection look installed already.
        tools.must("ansible", [*command, "--no-deps", "--offline", "--force"], environment=home)
    return collections / "ansible_collections" / NAMESPACE / NAME


def add_dependencies(tools: Tools, collections: Path) -> None:
    """Link the collections that ours imports, out of the Ansible bundle of the environment ``ansible``."""
    site = next((tools.venv("ansible") / "lib").glob("python3.*/site-packages/ansible_collections/kubernetes"), None)
    if site is None:
        raise GateError(
            "kubernetes.core is not in the environment 'ansible'.", "./sandbox/sandbox tools --only ansible"
        )
    link = collections / "ansible_collections" / "kubernetes"
    if not link.exists():
        link.symlink_to(site)


def fingerprint(installed: Path) -> str:
    """The checksum of the list of all files with their checksums: the same content gives the same, at any time."""
    manifest = json.loads((installed / "MANIFEST.json").read_text(encoding="utf-8"))
    return str(manifest["file_manifest_file"]["chksum_sha256"])[:20]


def tree(tools: Tools, folder: Path) -> Path:
    """A fresh installed copy of the collection, with its dependencies, in ``folder`` (emptied first)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    installed = install(tools, build(tools, folder / "dist"), folder)
    add_dependencies(tools, folder)
    return installed


@contextlib.contextmanager
def _own_home() -> Iterator[dict[str, str]]:
    """ansible-galaxy writes into ~/.ansible and reads a person's configuration there: give it a home of its own."""
    with tempfile.TemporaryDirectory(prefix="llmd-gates-") as home:
        configuration = Path(home, "ansible.cfg")
        configuration.touch()
        yield {"HOME": home, "ANSIBLE_CONFIG": str(configuration), "ANSIBLE_NOCOLOR": "1"}
