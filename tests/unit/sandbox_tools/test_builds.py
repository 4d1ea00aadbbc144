"""Go tools and virtual environments: what is built, what is refused, what is left after a failure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox.paths import Paths
from sandbox.toolchain import content, ensure, gotools, venvs
from sandbox.toolchain.errors import ToolchainError
from sandbox.toolchain.gotools import GO_TOOLS, Go
from sandbox.toolchain.progress import Step
from sandbox.toolchain.pythons import Python
from sandbox.toolchain.runner import Result
from sandbox.toolchain.venvs import Venv

GO = Go(Path("/go/bin/go"), "go1.26.8 linux/amd64")
HELM = next(tool for tool in GO_TOOLS if tool.name == "helm")
KUBERNETES = next(tool for tool in GO_TOOLS if tool.name == "kubernetes")


def linker(command: Sequence[str]) -> Result | None:
    """A go that writes what it was asked for."""
    if "build" not in command:
        return None
    output = Path(command[command.index("-o") + 1])
    names = [package.rpartition("/")[2] for package in command[command.index("-o") + 2 :]]
    for file in [output / name for name in names] if output.is_dir() else [output]:
        file.write_text("binary", encoding="utf-8")
        file.chmod(0o755)
    return Result(0, "k8s.io/api/core/v1\nk8s.io/kubernetes/cmd/kubelet\n")


def failing(text: str) -> Any:
    return lambda command: Result(1, text) if "build" in command or "install" in command else None


@pytest.mark.parametrize("tool", GO_TOOLS, ids=lambda tool: tool.name)
def test_every_module_is_pinned(tool: gotools.GoTool) -> None:
    text = (tool.folder / "go.mod").read_text(encoding="utf-8")
    assert re.search(r"^go 1\.\d+\.\d+$", text, re.MULTILINE)
    for package in tool.packages:
        assert (tool.folder / package / "main.go").is_file() if package.startswith(".") else package in text
    if "require" in text:
        assert (tool.folder / "go.sum").is_file()


def test_versions_that_programs_report() -> None:
    assert "gitVersion=v1.36.4-gke.1000000" in KUBERNETES.ldflags
    assert "version.version=v3.21.4" in HELM.ldflags
    assert "k8sVersionMinor=36" in HELM.ldflags


def test_go_key_follows_go_version() -> None:
    assert gotools.key(HELM, GO) == gotools.key(HELM, Go(Path("/other/go"), GO.version))
    assert gotools.key(HELM, GO) != gotools.key(HELM, Go(GO.path, "go1.27.0 linux/amd64"))


@pytest.mark.parametrize("tool", [HELM, KUBERNETES], ids=lambda tool: tool.name)
def test_build_puts_all_binaries_in_the_folder(tmp_path: Path, fake_run: Any, tool: gotools.GoTool) -> None:
    fake_run.answers.append(linker)
    step = Step("x", 0.0)
    gotools.build(tool, GO, tmp_path / "final", fake_run, step)
    assert gotools.is_built(tool, tmp_path / "final")
    assert "-mod=readonly" in fake_run.calls[0]
    assert step.note == "2 packages"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("write /x: no space left on device", "No space left on the disk while building helm"),
        ("go: helm: dial tcp: lookup proxy: no such host", "could not be downloaded"),
        ("link: signal: killed", "lack of memory"),
        ("main.go:1: syntax error", "Building helm failed"),
    ],
)
def test_failed_go_build_says_why_and_leaves_nothing(tmp_path: Path, fake_run: Any, output: str, message: str) -> None:
    fake_run.answers.append(failing(output))
    with pytest.raises(ToolchainError, match=message) as caught:
        gotools.build(HELM, GO, tmp_path / "builds" / "final", fake_run, Step("x", 0.0))
    assert caught.value.remedy
    assert list((tmp_path / "builds").iterdir()) == []


def test_missing_and_old_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_run: Any) -> None:
    monkeypatch.setattr(gotools, "go_candidates", lambda _: iter(()))
    with pytest.raises(ToolchainError, match="Go is not installed"):
        gotools.find_go(fake_run)
    old = tmp_path / "go"
    old.touch()
    monkeypatch.setattr(gotools, "go_candidates", lambda _: iter([old]))
    fake_run.answers.append(lambda _: Result(0, "go version go1.19.8 linux/amd64\n"))
    with pytest.raises(ToolchainError, match=r"too old: .*go is 1\.19\.8; the tools need 1\.26") as caught:
        gotools.find_go(fake_run)
    assert "install Go 1.26" in caught.value.remedy


def environment(tmp_path: Path) -> Venv:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("requests==2\n", encoding="utf-8")
    return Venv("sandbox", requirements, Python(Path("/usr/bin/python3.11"), "3.11.2"))


def make_python(command: Sequence[str]) -> Result | None:
    if "venv" not in command:
        return None
    python = Path(command[-1]) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    return Result(0, "")


def test_environment_is_complete_only_at_the_end(tmp_path: Path, fake_run: Any) -> None:
    venv = environment(tmp_path)
    folder = venv.folder(tmp_path / "venv")
    (folder / "lib").mkdir(parents=True)  # half-built by one that was killed: no marker
    assert not venvs.is_built(venv, folder)

    def pip(command: Sequence[str]) -> Result | None:
        assert not content.is_complete(folder)
        return Result(0, "Collecting requests\n") if "pip" in command else None

    fake_run.answers += [make_python, pip]
    venvs.build(venv, folder, fake_run, Step("x", 0.0))
    assert venvs.is_built(venv, folder)
    assert not (folder / "lib").exists()
    (folder / "bin" / "python").unlink()  # its interpreter was removed from the machine
    assert not venvs.is_built(venv, folder)


@pytest.mark.parametrize(
    ("output", "message"),
    [("ERROR: [Errno 28] No space left on device", "No space left"), ("ERROR: no matching distribution", "failed")],
)
def test_failed_environment_is_removed(tmp_path: Path, fake_run: Any, output: str, message: str) -> None:
    venv = environment(tmp_path)
    folder = venv.folder(tmp_path / "venv")
    fake_run.answers += [make_python, failing(output)]
    with pytest.raises(ToolchainError, match=message):
        venvs.build(venv, folder, fake_run, Step("x", 0.0))
    assert not folder.exists()


def test_requirements_pin_every_package() -> None:
    files = sorted(venvs.FOLDER.glob("requirements-*.txt"))
    assert len(files) == 7
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"{file.name}: {line}"


def test_the_test_environment_has_the_sandbox_packages_at_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        lines = (venvs.FOLDER / name).read_text(encoding="utf-8").splitlines()
        return {line for line in lines if not line.startswith("#")}

    for series in ("2.19", "2.21"):
        assert pins("requirements-sandbox.txt") <= pins(f"requirements-ansible-{series}.txt")


def test_groups_and_unknown_names() -> None:
    assert ensure.expand(["go"]) == ["pause", "helm", "etcd", "kwok", "kubernetes", "coredns"]
    assert ensure.expand(["ansible", "packages"]) == ["packages", "ansible"]
    assert "prometheus" not in ensure.expand(["standard"])
    with pytest.raises(ToolchainError, match="Unknown tool 'helmm'"):
        ensure.expand(["helmm"])


def test_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, paths: Paths) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ToolchainError, match="cannot write") as caught:
        ensure.ensure(paths, ["helm"])
    assert "LLMD_SANDBOX_CACHE" in caught.value.remedy
