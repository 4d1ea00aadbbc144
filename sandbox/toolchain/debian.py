"""Debian packages: installed only where what they bring is missing, and without leaving a service behind.

A package's post-installation script starts and enables its daemon. Starting is refused by a policy file (the way
Debian documents for chroots) that exists only during the installation; enabling is undone afterwards.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.toolchain.errors import ToolchainError, disk_full, says_disk_full
from sandbox.toolchain.progress import Step
from sandbox.toolchain.runner import Run, clean_environment

POLICY = Path("/usr/sbin/policy-rc.d")  # invoke-rc.d(8) and deb-systemd-invoke(1p) ask it; 101: do not start
_MARK = "# llmd-gke sandbox: written while packages are installed, gone afterwards"
_SAVED = ".before-llmd-gke"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Package:
    """A package and how to see that it is not needed: all its commands are on PATH and all its files exist."""

    name: str
    commands: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()  # of Debian's own python3


PACKAGES = (
    Package("containerd", ("containerd", "containerd-shim-runc-v2", "ctr")),
    Package("runc", ("runc",)),
    Package("crun", ("crun",)),
    Package("containernetworking-plugins", files=("/usr/lib/cni/bridge", "/usr/lib/cni/host-local")),
    Package("nftables", ("nft",)),
    Package("iproute2", ("ip",)),
    Package("conntrack", ("conntrack",)),
    Package("util-linux", ("nsenter", "mount")),
    Package("ca-certificates", files=("/etc/ssl/certs/ca-certificates.crt",)),
    Package("curl", ("curl",)),
    Package("python3-venv", modules=("ensurepip", "venv")),
)
OPTIONAL = {"prometheus": (Package("prometheus", ("prometheus", "promtool")),)}


def missing(packages: Sequence[Package], run: Run, environment: Mapping[str, str] | None = None) -> list[Package]:
    """The packages whose commands, files or modules are not all there."""
    path = f"{(os.environ if environment is None else environment).get('PATH', '')}:{_SYSTEM_PATH}"
    return [package for package in packages if not _is_there(package, run, path)]


def _is_there(package: Package, run: Run, path: str) -> bool:
    if not all(shutil.which(command, path=path) for command in package.commands):
        return False
    if not all(Path(file).exists() for file in package.files):
        return False
    if package.modules:
        python = Path("/usr/bin/python3")
        # Where the system has no Python of its own, the one in use was found to have these modules (pythons.py).
        statement = "import " + ", ".join(package.modules)
        return not python.exists() or run([str(python), "-I", "-c", statement]).returncode == 0
    return True


def install(packages: Sequence[Package], run: Run, step: Step, *, policy: Path = POLICY) -> None:
    """Install packages with apt-get. Raises ``ToolchainError`` with the way out where that is not possible."""
    names = [package.name for package in packages]
    by_hand = f"apt-get install --no-install-recommends {' '.join(names)}"
    if shutil.which("apt-get") is None:
        raise ToolchainError(
            f"Missing on this machine: {', '.join(names)} (Debian's names), and there is no apt-get to install them.",
            "install the same programs with this distribution's package manager, then start again",
        )
    if os.geteuid() != 0:
        raise ToolchainError(f"Missing packages: {', '.join(names)}.", f"run as root: {by_hand}")
    environment = clean_environment(
        DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1", NEEDRESTART_SUSPEND="1", LC_ALL="C.UTF-8"
    )
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", "-o", "APT::Color=0"]

    def show(line: str) -> None:
        if line.startswith(("Unpacking", "Setting up", "Get:")):
            step.note = " ".join(line.split()[:3])

    with no_services(policy):
        interrupted = run(["dpkg", "--audit"], environment=environment).output.strip()
        if interrupted:  # an earlier installation was killed: finish it first, or apt refuses to work
            run(["dpkg", "--configure", "-a"], environment=environment, on_line=show, outlive=True)
        step.note = "apt-get update"
        _checked(run, [*apt, "update"], environment, show, by_hand)
        _checked(run, [*apt, "install", "-y", "--no-install-recommends", *names], environment, show, by_hand)
        _disable_services(names, run)
    step.note = " ".join(names)
    left = missing(packages, run)
    if left:
        gone = ", ".join(package.name for package in left)
        raise ToolchainError(f"apt-get installed {gone}, yet its programs are not there.", f"look at: {by_hand}")


def _checked(
    run: Run, command: Sequence[str], environment: Mapping[str, str], show: Callable[[str], None], by_hand: str
) -> None:
    result = run(command, environment=environment, on_line=show, outlive=True)
    if result.returncode == 0:
        return
    if says_disk_full(result.output):
        raise disk_full("installing Debian packages", [Path("/var/cache/apt"), Path("/usr")])
    errors = [line for line in result.output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    raise ToolchainError(
        f"{' '.join(part for part in command if not part.startswith('-') and '=' not in part)} failed.",
        f"check the network and the package sources, or install by hand (`apt-get update && {by_hand}`), "
        "then start again",
        details="\n".join(errors[-8:]) or result.tail,
    )


def _disable_services(names: Sequence[str], run: Run) -> None:
    """Undo what the packages enabled for the next boot. Only units of packages that were missing until now."""
    if shutil.which("systemctl") is None:
        return
    for name in names:
        listed = run(["dpkg", "-L", name]).output.splitlines()
        units = [Path(line).name for line in listed if "/systemd/system/" in line and line.endswith(".service")]
        for unit in units:
            if "@" not in unit:
                run(["systemctl", "disable", "--quiet", unit])


@contextlib.contextmanager
def no_services(policy: Path = POLICY) -> Iterator[None]:
    """Have Debian's tools refuse to start services within the ``with`` block; restore what was there before."""
    saved = policy.with_name(policy.name + _SAVED)
    heal_policy(policy)
    if policy.exists() or policy.is_symlink():
        policy.rename(saved)
    try:
        fresh = policy.with_name(policy.name + ".llmd-gke")
        fresh.write_text(f"#!/bin/sh\n{_MARK}\nexit 101\n", encoding="ascii")
        fresh.chmod(0o755)
        fresh.rename(policy)
        yield
    finally:
        heal_policy(policy)


def was_interrupted(policy: Path = POLICY) -> bool:
    """Whether an installation of ours is under way or was killed (the lock tells which)."""
    if policy.with_name(policy.name + _SAVED).exists():
        return True
    try:
        return _MARK in policy.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def heal_policy(policy: Path = POLICY) -> None:
    """Put the policy file back as it was, also after an installation that was killed."""
    saved = policy.with_name(policy.name + _SAVED)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _MARK in policy.read_text(encoding="utf-8"):
            policy.unlink()
    if saved.exists() or saved.is_symlink():
        saved.rename(policy)
