"""Every command and every example in the README and the guides is one that works, as far as that can be said here.

Playbooks are looked at by Ansible itself, with the options that the document gives (--syntax-check, in a copy of the
layout of a checkout); copies are made; targets are asked for with ``make --dry-run``; the sandbox's commands go through
its own parser; charts are compared with the profile; variables go through the roles' own specifications. What only a
real project, an AWX or a package index can show has a reason in ``ELSEWHERE``. A command of a kind that is not known
here fails: it needs a way to be tried.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from gates import molecule
from sandbox.cli import main as sandbox_cli
from tests.documents import REPOSITORY, Block, all_blocks

PLAYBOOK = shutil.which("ansible-playbook")
pytestmark = pytest.mark.skipif(PLAYBOOK is None, reason="ansible-playbook is not on PATH: run `make contract`")

# Where nothing is tried here but the shell's own look at it, and why.
ELSEWHERE = {
    "gcloud": "asks Google",
    "export": "a setting of the reader's shell",
    "read": "asks the reader",
    "printf": "feeds gcloud",
    "curl": "asks a deployment; tests/sandbox/test_pattern1.py sends the same request",
}


def shell_blocks() -> list[Block]:
    found = [block for block in all_blocks() if block.is_shell]
    assert len(found) > 15
    return found


def examples() -> list[tuple[Path, Any]]:
    return [(block.document, yaml.safe_load(block.text)) for block in all_blocks() if block.language == "yaml"]


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Laid out as a checkout, one for each inventory that a reader can start from; only inventories are a copy."""
    made = {}
    for origin in ("example", "fleet"):
        made[origin] = folder = tmp_path_factory.mktemp(origin)
        for path in REPOSITORY.iterdir():
            if path.name not in ("inventories", ".git"):
                (folder / path.name).symlink_to(path)
        shutil.copytree(REPOSITORY / "inventories", folder / "inventories")
        shutil.copytree(REPOSITORY / "inventories" / origin, folder / "inventories/mine")
    return made


def origin_of(document: Path) -> str:
    """Which inventory ``inventories/mine`` is a copy of, in a document: the one that it names, else the example."""
    return "fleet" if "inventories/fleet" in document.read_text(encoding="utf-8") else "example"


def run(checkout: Path, *words: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "LLMD_", "HF_"))}
    environment = {**kept, "HOME": str(checkout), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(checkout / "tmp")}
    done = subprocess.run(
        words, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


# --- one function a kind of command; each raises AssertionError -------------------------------------------------------


def try_playbooks(commands: list[list[str]], checkout: Path) -> None:
    """Those with the same options at once: what differs is the playbook alone."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for words in commands:
        if "awx/apply.yml" in words and importlib.util.find_spec("ansible_collections.awx") is None:
            continue  # modules of a collection that this Ansible does not bring; tests/unit/awx looks at the file
        playbook = next(word for word in words if word.endswith(".yml"))
        alike.setdefault(tuple(word for word in words if word != playbook), []).append(playbook)
    assert alike
    for options, playbooks in alike.items():
        said = run(checkout, *options, *playbooks, "--syntax-check")
        assert said.count("playbook: ") == len(playbooks), said
        if "-i" in options:  # an inventory that the documents have told to make by then
            assert (checkout / options[options.index("-i") + 1]).is_dir()


def try_copy(words: list[str], checkout: Path) -> None:
    run(checkout, *words)


def try_make(words: list[str], checkout: Path) -> None:
    run(checkout, "make", "--dry-run", *words[1:])


def try_pip(words: list[str], checkout: Path) -> None:
    pins = (REPOSITORY / "sandbox/toolchain/requirements-ansible-2.21.txt").read_text(encoding="utf-8")
    older = (REPOSITORY / "sandbox/toolchain/requirements-ansible-2.19.txt").read_text(encoding="utf-8")
    for package in words[2:]:
        assert re.search(rf"^{re.escape(package)}(==|$)", pins + older, re.MULTILINE), package


def try_helm_pull(words: list[str], checkout: Path) -> None:
    profile = yaml.safe_load((REPOSITORY / "plugins/plugin_utils/profiles/llm-d-0.4.yml").read_text(encoding="utf-8"))
    known = {(chart["name"], chart["version"], chart["repository"].rstrip("/")) for chart in profile["charts"].values()}
    name, version = words[2], words[words.index("--version") + 1]
    repository = words[words.index("--repo") + 1] if "--repo" in words else name.rpartition("/")[0]
    assert (name.rpartition("/")[2], version, repository.rstrip("/")) in known


def try_sandbox(words: list[str], checkout: Path) -> None:
    assert (checkout / words[0]).is_file()
    sandbox_cli.parser().parse_args(words[1:])  # ends the interpreter where it does not know a word


def try_molecule(words: list[str], checkout: Path) -> None:
    assert words[words.index("-s") + 1] in molecule.known()


KINDS: dict[str, Callable[[list[str], Path], None]] = {
    "cp": try_copy,
    "make": try_make,
    "pip": try_pip,
    "helm": try_helm_pull,
    "molecule": try_molecule,
    "./sandbox/sandbox": try_sandbox,
}


def test_every_command_is_one_that_works(checkouts: dict[str, Path]) -> None:
    tried: set[tuple[str, ...]] = set()
    playbooks: dict[str, list[list[str]]] = {}
    wrong: list[str] = []
    for block in shell_blocks():
        shell = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert shell.returncode == 0, f"{block.document}: {shell.stderr}"
        origin = origin_of(block.document)
        for words in block.commands():
            if words[0] in ELSEWHERE or (origin, *words) in tried:
                continue
            tried.add((origin, *words))
            if words[0] == "ansible-playbook":
                playbooks.setdefault(origin, []).append(words)
                continue
            assert words[0] in KINDS, f"{block.document}: nothing here tries {words[0]!r}"
            try:
                KINDS[words[0]](words, checkouts[origin])
            except (AssertionError, SystemExit) as error:
                wrong.append(f"{block.document.relative_to(REPOSITORY)}: {error}")
    assert not wrong, "\n".join(wrong)
    assert {words[1] for words in tried} == {"ansible-playbook", *KINDS}, "a kind that no document uses any more"
    for origin, commands in playbooks.items():
        try_playbooks(commands, checkouts[origin])


def test_every_example_of_a_task_or_play_is_read_by_ansible(checkouts: dict[str, Path]) -> None:
    checkout = checkouts["example"]
    plays: list[dict[str, Any]] = []
    for _, content in examples():
        if isinstance(content, list):
            plays += [one for one in content if "hosts" in one or "ansible.builtin.import_playbook" in one]
            tasks = [one for one in content if "hosts" not in one and "ansible.builtin.import_playbook" not in one]
            if tasks:
                plays.append({"name": "Example", "hosts": "llmd", "gather_facts": False, "tasks": tasks})
    assert len(plays) > 20
    # Beside the playbooks, from where the collection is found.
    (checkout / "examples.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    path = f"ANSIBLE_COLLECTIONS_PATH={checkout / 'playbooks/collections'}"
    run(checkout, "env", path, "ansible-playbook", "-i", "inventories/example", "examples.yml", "--syntax-check")


def specification() -> dict[str, Any]:
    """The documented variables of all roles."""
    options: dict[str, Any] = {}
    for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            options |= entry.get("options") or {}
    return options


def test_every_example_of_variables_fits_the_roles_specifications() -> None:
    known, looked_at = specification(), 0
    for document, content in examples():
        if not isinstance(content, dict):
            continue
        assert content.keys() <= known.keys(), document
        plain = {name: value for name, value in content.items() if "{{" not in str(value)}
        asked = {name: {**known[name], "required": False} for name in plain}
        assert ArgumentSpecValidator(asked).validate(plain).error_messages == [], document
        looked_at += len(plain)
    assert looked_at > 15
