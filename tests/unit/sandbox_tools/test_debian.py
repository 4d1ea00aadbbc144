"""Debian packages: only what is missing, no service started, the policy file as it was before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox.toolchain import debian
from sandbox.toolchain.debian import Package
from sandbox.toolchain.errors import ToolchainError
from sandbox.toolchain.progress import Step
from sandbox.toolchain.runner import Result

HERE = Package("here", ("sh",))
GONE = Package("gone", ("no-such-program-anywhere",))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "policy-rc.d"


def test_missing_is_seen_by_what_packages_bring(fake_run: Any) -> None:
    no_file = Package("files", files=("/no/such/file",))
    assert debian.missing([HERE, GONE, no_file], fake_run, {"PATH": "/bin"}) == [GONE, no_file]
    assert fake_run.calls == []


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_policy_refuses_services_and_is_restored(policy: Path, before: str | None) -> None:
    if before is not None:
        policy.write_text(before, encoding="ascii")
    with debian.no_services(policy):
        assert "exit 101" in policy.read_text()
        assert policy.stat().st_mode & 0o111
        assert debian.was_interrupted(policy)
    assert (policy.read_text() if policy.exists() else None) == before
    assert not debian.was_interrupted(policy)
    assert len(list(policy.parent.iterdir())) == (before is not None)


def test_policy_left_by_a_killed_installation_is_healed(policy: Path) -> None:
    policy.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    debian.no_services(policy).__enter__()
    with debian.no_services(policy):  # the next run: it must not take our own file for the host's
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_only_missing_packages_are_installed(monkeypatch: pytest.MonkeyPatch, policy: Path, fake_run: Any) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/bin/{name}")
    debian.install([GONE], fake_run, Step("x", 0.0), policy=policy)
    apt = [call for call in fake_run.calls if call[0] == "apt-get"]
    assert [call[-1] for call in apt] == ["update", "gone"]
    assert "--no-install-recommends" in apt[1]


@pytest.mark.parametrize(
    ("user", "apt", "message", "remedy"),
    [
        (1000, "/usr/bin/apt-get", "Missing packages: gone", "run as root: apt-get install"),
        (0, None, "there is no apt-get", "package manager"),
    ],
)
def test_what_stands_in_the_way(
    monkeypatch: pytest.MonkeyPatch, fake_run: Any, user: int, apt: str | None, message: str, remedy: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr("shutil.which", lambda *_, **__: apt)
    with pytest.raises(ToolchainError, match=message) as caught:
        debian.install([GONE], fake_run, Step("x", 0.0))
    assert remedy in caught.value.remedy


def test_failing_apt_tells_its_own_errors(monkeypatch: pytest.MonkeyPatch, policy: Path, fake_run: Any) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/bin/{name}")

    def apt(command: Sequence[str]) -> Result | None:
        return Result(100, "Hit:1 x\nE: Could not resolve 'mirror'\n") if command[-1] == "update" else None

    fake_run.answers.append(apt)
    with pytest.raises(ToolchainError, match="apt-get update failed") as caught:
        debian.install([GONE], fake_run, Step("x", 0.0), policy=policy)
    assert caught.value.details == "E: Could not resolve 'mirror'"
    assert not policy.exists()
