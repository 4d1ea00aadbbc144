"""Environments: that of a client inside the sandbox, and that of the daemon."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping

from sandbox.paths import ENV_CACHE, ENV_NAME, ENV_STATE, REPOSITORY, Paths

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The sandbox's network has no way out, so a proxy of the host can only be wrong inside.
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def parse(text: str) -> dict[str, str]:
    """Variables of an environment file: ``KEY=value`` lines, the value verbatim to the end of the line.

    Empty lines, comments (#) and lines that are no assignment are passed over, as sandbox/python does.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and _NAME.fullmatch(name):
            found[name] = value
    return found


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.lower() not in PROXIES}


def inside(paths: Paths, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program inside: the caller's, then the sandbox's, tools first on PATH."""
    environment = without_proxies(os.environ if base is None else base)
    with contextlib.suppress(OSError):  # before the daemon has written it
        environment.update(parse(paths.environment_file.read_text(encoding="utf-8")))
    environment["PATH"] = f"{paths.bin}:{environment.get('PATH') or os.defpath}"
    # `gcloud container clusters get-credentials` inside must not write into the person's own ~/.kube/config.
    environment.setdefault("KUBECONFIG", str(paths.state / "kubeconfig"))
    return environment


def for_daemon(paths: Paths, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the daemon: this checkout on Python's path, this sandbox's name and folders."""
    environment = without_proxies(os.environ if base is None else base)
    for name in ("PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"):
        environment.pop(name, None)
    environment.update(
        {
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            ENV_NAME: paths.name,
            ENV_CACHE: str(paths.cache),
            ENV_STATE: str(paths.state.parent),
            # sbin: a person's sudo may leave it out, and ip, nft and runc live there.
            "PATH": f"{paths.bin}:{environment.get('PATH') or os.defpath}:/usr/local/sbin:/usr/sbin:/sbin",
        }
    )
    return environment
