"""Our helmfile way against what the real helmfile 1.4.4 with helm-diff 3.15.11 did: a program replays its recording.

The recording holds what was typed, both outputs and the exit code. helmfile itself cannot be had where these tests
run.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import system_runner
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helmfile import (
    Helmfile,
    affected,
    has_helm_diff,
    render_helmfile,
)
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Release

REFERENCE = Path(os.environ.get("LLMD_REFERENCE", Path(__file__).resolve().parents[4] / "shared/reference"))
TRANSCRIPT = REFERENCE / "helmfile/transcript.txt"
pytestmark = pytest.mark.skipif(not TRANSCRIPT.is_file(), reason="no recording here")


@dataclass(frozen=True)
class Call:
    """One recorded call."""

    words: str
    stdout: str
    stderr: str
    rc: int


def recorded() -> list[Call]:
    found = []
    for part in re.split(r"^\$ ", TRANSCRIPT.read_text(), flags=re.M)[1:]:
        words, _, rest = part.partition("\n")
        stdout, _, rest = rest.partition("--- stderr (first lines)\n")
        stderr, _, rest = rest.rpartition("--- exit ")
        found.append(Call(words, stdout, stderr, int(rest.split(",")[0])))
    return found


def one(pattern: str, rc: int) -> Call:
    """The first call whose words match and that ended so."""
    return next(call for call in recorded() if re.search(pattern, call.words) and call.rc == rc)


class Replay:
    """A helmfile program in a folder: answers each verb with a recorded call, keeps what it was asked."""

    def __init__(self, folder: Path, **answers: Call) -> None:
        self.log = folder / "asked"
        for verb, call in answers.items():
            (folder / f"{verb}.out").write_text(call.stdout)
            (folder / f"{verb}.err").write_text(call.stderr)
            (folder / f"{verb}.rc").write_text(str(call.rc))
        self.path = folder / "helmfile"
        self.path.write_text(
            f'#!/bin/sh\necho "$@" >> {self.log}\nfor verb in diff apply; do case " $* " in *" $verb "*)\n'
            f"cat {folder}/$verb.out; cat {folder}/$verb.err >&2; exit $(cat {folder}/$verb.rc);; esac; done\nexit 64\n"
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    def helmfile(self, folder: Path) -> Helmfile:
        return Helmfile((str(self.path), "/opt/helm"), system_runner, {}, folder, context="there")

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


NOTHING, CHANGES, APPLIED = one(r"diff", 0), one(r"diff --detailed-exitcode --no-color", 2), one(r"apply", 0)


def test_the_recording_is_what_we_think() -> None:
    assert (one("version", 0).stdout.strip(), len(recorded())) == ("v1.4.4", 11)
    assert {call.rc for call in recorded()} == {0, 1, 2}


def test_nothing_to_do(tmp_path: Path) -> None:
    program = Replay(tmp_path, diff=NOTHING)
    assert program.helmfile(tmp_path).diff() == {}
    (asked,) = program.asked()
    assert asked.startswith(f"--file {tmp_path}/helmfile.yaml --helm-binary /opt/helm --kube-context there diff ")
    assert "--detailed-exitcode" in asked


def test_what_differs_is_named_and_applied(tmp_path: Path) -> None:
    program = Replay(tmp_path, diff=CHANGES, apply=APPLIED)
    helmfile = program.helmfile(tmp_path)
    assert helmfile.diff() == {"ms-pattern1": "UPDATED"}
    helmfile.apply()
    assert [line.split(" there ")[1].split()[0] for line in program.asked()] == ["diff", "apply"]


def test_the_machine_readable_diff_says_the_same() -> None:
    """We read the summary, since it names releases; the JSON names objects only."""
    call = one(r"--output json", 2)
    objects: list[dict[str, Any]] = json.loads(call.stdout[call.stdout.index("[{") :])
    assert [entry["change"] for entry in objects] == ["MODIFY"]
    assert affected(call.stderr) == {"ms-pattern1": "UPDATED"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("nope.yaml apply", "specified state file nope.yaml is not found"),
        ("bad.yaml apply", 'command "helm" exited with non-zero status'),
        ("bad2.yaml apply", "infra-pattern1"),
    ],
)
def test_errors_keep_helmfiles_words(tmp_path: Path, words: str, told: str) -> None:
    program = Replay(tmp_path, diff=CHANGES, apply=one(words, 1))
    with pytest.raises(LlmdError) as caught:
        program.helmfile(tmp_path).apply()
    assert caught.value.code.startswith("HELM")
    assert told in caught.value.why
    assert "Comparing release" not in caught.value.why  # progress is no reason


def test_without_the_diff_plugin_it_is_not_used(tmp_path: Path) -> None:
    helm = tmp_path / "helm"
    for listed, usable in (("NAME\tVERSION\tDESCRIPTION\n", False), ("NAME\tVERSION\ndiff\t3.15.11\tPreview\n", True)):
        helm.write_text(f"#!/bin/sh\nprintf '{listed}'\n".replace("\t", "\\t").replace("\n'", "\\n'"))
        helm.chmod(0o755)
        assert has_helm_diff(str(helm), system_runner, {}) is usable


def test_what_we_write_is_what_the_real_one_read(tmp_path: Path) -> None:
    """The recorded list is of a helmfile with packaged charts, beside it; ours has the same form."""
    listed = json.loads(one("list", 0).stdout)
    releases = [
        Release(entry["name"], entry["chart"], "1", entry["namespace"], needs=("infra-pattern1",) * (index != 1))
        for index, entry in enumerate(listed)
    ]
    packages = {entry["name"]: tmp_path / Path(entry["chart"]).name for entry in listed}
    document = yaml.safe_load(render_helmfile(releases, packages, 900))
    assert set(document) == {"helmDefaults", "releases"}  # no repositories: nothing is fetched, nothing is rebuilt
    for ours, theirs in zip(document["releases"], listed, strict=True):
        assert (ours["name"], ours["namespace"]) == (theirs["name"], theirs["namespace"])
        assert ours["chart"].startswith("./")
        assert ours["chart"].endswith(".tgz")  # a folder would be rebuilt over the network
        assert ours["values"] == [f"values/{ours['name']}.yaml"]  # relative: the folder can be moved
        assert all(need == "llm-d/infra-pattern1" for need in ours.get("needs", []))
