"""The Go programs: each folder of ``go/`` is a module whose go.mod and go.sum pin everything that goes in.

One module holds nearly all of them, so that each library has one version and is compiled once: client-go and its like
are most of what helm, kwok and CoreDNS are made of, too.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.toolchain import content
from sandbox.toolchain.errors import ToolchainError, disk_full, says_disk_full
from sandbox.toolchain.progress import Step
from sandbox.toolchain.runner import Run, clean_environment

MODULES = Path(__file__).resolve().parent / "go"

# What a GKE control plane of the regular channel calls itself; charts and gcloud read it.
KUBERNETES_VERSION = "v1.36.4-gke.1000000"
_BUILD_DATE = "2026-11-23T00:00:00Z"  # fixed, so that the same sources give the same bytes


def _version_flags(packages: tuple[str, ...], values: Mapping[str, str]) -> str:
    return " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())


_KUBERNETES_FLAGS = _version_flags(
    ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"),
    {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": "1",
        "gitMinor": "36",
        "gitTreeState": "clean",
        "buildDate": _BUILD_DATE,
    },
)
# Without these helm says v3.21 and renders charts for Kubernetes 1.20.
_HELM_FLAGS = " ".join(
    (
        _version_flags(("helm.sh/helm/v3/internal/version",), {"version": "v3.21.4"}),
        _version_flags(
            ("helm.sh/helm/v3/pkg/lint/rules", "helm.sh/helm/v3/pkg/chartutil"),
            {"k8sVersionMajor": "1", "k8sVersionMinor": "36"},
        ),
    )
)


@dataclass(frozen=True)
class GoTool:
    """Programs of one module.

    ``packages`` by import path (``./x``: a main of ours), each giving the binary of the same place in ``binaries``.
    """

    name: str
    packages: tuple[str, ...]
    binaries: tuple[str, ...]
    ldflags: str = ""
    flags: tuple[str, ...] = ()
    module: str = "kubernetes"

    @property
    def folder(self) -> Path:
        return MODULES / self.module

    def sources(self) -> list[Path]:
        own = [path for package in self.packages if package[0] == "." for path in (self.folder / package).glob("*.go")]
        return [path for path in (self.folder / "go.mod", self.folder / "go.sum", *own) if path.is_file()]

    def arguments(self) -> list[str]:
        """Arguments of ``go build`` but for the output. -pgo=off: Kubernetes' profiles double the build time."""
        link = f"-s -w {self.ldflags}".strip()
        return ["-mod=readonly", "-trimpath", "-buildvcs=false", "-pgo=off", "-ldflags", link, *self.flags]


_KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)

# The quick ones first: helm and pause are what the charts and images wait for.
GO_TOOLS = (
    GoTool("pause", (".",), ("pause",), module="pause"),
    GoTool("helm", ("helm.sh/helm/v3/cmd/helm",), ("helm",), _HELM_FLAGS),
    GoTool("etcd", ("./etcd",), ("etcd",)),
    GoTool("kwok", ("sigs.k8s.io/kwok/cmd/kwok", "sigs.k8s.io/kwok/cmd/kwokctl"), ("kwok", "kwokctl")),
    GoTool(
        "kubernetes",
        tuple(f"k8s.io/kubernetes/cmd/{program}" for program in _KUBERNETES_PROGRAMS),
        _KUBERNETES_PROGRAMS,
        _KUBERNETES_FLAGS,
    ),
    GoTool("coredns", ("./coredns",), ("coredns",)),
)


@dataclass(frozen=True)
class Go:
    """A Go installation: path of ``go`` and its version text ("go1.26.8 linux/amd64")."""

    path: Path
    version: str


def go_candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where ``go`` may be: PATH, GOROOT, and the usual places that sudo's PATH leaves out."""
    on_path = shutil.which("go", path=environment.get("PATH"))
    if on_path:
        yield Path(on_path)
    if environment.get("GOROOT"):
        yield Path(environment["GOROOT"]) / "bin" / "go"
    yield Path("/usr/local/go/bin/go")
    home = Path(environment.get("HOME") or "/root")
    for pattern in (Path("/usr/lib").glob("go-*/bin/go"), home.glob("sdk/go*/bin/go")):
        yield from sorted(pattern, reverse=True)


def find_go(run: Run, environment: Mapping[str, str] | None = None) -> Go:
    """The first Go that is new enough for every module.

    Raises ``ToolchainError`` where there is none, naming the ones that are too old.
    """
    needed = needed_version()
    old: list[str] = []
    seen: set[Path] = set()
    for path in go_candidates(os.environ if environment is None else environment):
        real = path.resolve()
        if real in seen or not path.is_file():
            continue
        seen.add(real)
        result = run([str(path), "version"], environment=go_environment())
        match = re.search(r"\bgo(\d+(?:\.\d+)+)\S* (\S+)", result.output)
        if result.returncode != 0 or not match:
            continue
        if _numbers(match[1]) >= _numbers(needed):
            return Go(path, f"go{match[1]} {match[2]}")
        old.append(f"{path} is {match[1]}")
    remedy = (
        f"install Go {needed} or newer (the distribution's own is often older; unpack the upstream release under "
        "/usr/local/go), or put it on PATH, then start again"
    )
    if old:
        raise ToolchainError(f"Go is too old: {', '.join(old)}; the tools need {needed}.", remedy)
    raise ToolchainError("Go is not installed, and the sandbox's Kubernetes tools are built with it.", remedy)


def needed_version() -> str:
    """The highest ``go`` directive of the modules, as "1.26.0"."""
    found = []
    for tool in GO_TOOLS:
        match = re.search(r"^go (\S+)$", (tool.folder / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            found.append(match[1])
    return max(found, key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def go_environment() -> dict[str, str]:
    """Environment of every go command: static binaries, the installed Go and no other, no workspace."""
    environment = clean_environment(CGO_ENABLED="0", GOTOOLCHAIN="local", GOWORK="off", GOFLAGS="")
    if not environment.get("HOME"):  # systemd units and some CI runners
        environment["HOME"] = "/root"
    return environment


def key(tool: GoTool, go: Go) -> str:
    """Content key of a tool: its sources, flags, packages and the Go that builds it."""
    return content.content_key(tool.sources(), *tool.arguments(), *tool.packages, go.version)


def is_built(tool: GoTool, folder: Path) -> bool:
    return content.is_complete(folder) and all(os.access(folder / name, os.X_OK) for name in tool.binaries)


def build(tool: GoTool, go: Go, final: Path, run: Run, step: Step) -> None:
    """Build ``tool`` into the folder ``final`` (complete or not there at all). The caller holds its lock."""
    what = f"building {tool.name}"
    made_from = {"tool": tool.name, "go": go.version, "key": key(tool, go)}
    with content.build_folder(final, made_from, what) as folder:
        _go_build(tool, go, folder, run, step)
        missing = [name for name in tool.binaries if not (folder / name).is_file()]
        if missing:
            raise ToolchainError(f"go build of {tool.name} ended well but left no {', '.join(missing)}.")


def _go_build(tool: GoTool, go: Go, folder: Path, run: Run, step: Step) -> None:
    compiled = 0

    def count(line: str) -> None:
        nonlocal compiled
        if line.startswith("go: downloading"):
            step.note = f"downloading {line.split()[-2]}"
        elif re.fullmatch(r"[\w./~+-]+", line):
            compiled += 1
            step.note = f"{compiled} packages"

    # One main: -o names the file, as its import path may end otherwise than the binary is called.
    output = str(folder / tool.binaries[0]) if len(tool.binaries) == 1 else f"{folder}/"
    command = [str(go.path), "build", "-v", *tool.arguments(), "-o", output, *tool.packages]
    result = run(command, cwd=tool.folder, environment=go_environment(), on_line=count)
    if result.returncode == 0:
        step.note = f"{compiled} packages" if compiled else "from Go's build cache"
        return
    if says_disk_full(result.output):
        raise disk_full(f"building {tool.name}", _go_folders(go, folder, run))
    raise _build_error(tool, result.output)


def _go_folders(go: Go, folder: Path, run: Run) -> list[Path]:
    result = run([str(go.path), "env", "GOCACHE", "GOMODCACHE"], environment=go_environment())
    temporary = Path(os.environ.get("TMPDIR") or "/tmp")
    return [folder, temporary, *(Path(line) for line in result.output.split() if line.startswith("/"))]


def _build_error(tool: GoTool, output: str) -> ToolchainError:
    lines = [line for line in output.strip().splitlines() if not re.fullmatch(r"[\w./~+-]+", line)]
    details = "\n".join(line for line in lines if not line.startswith("go: downloading"))
    details = "\n".join(details.splitlines()[-12:])
    if re.search(r"dial tcp|no such host|i/o timeout|connection refused|TLS handshake|410 Gone|403 Forbidden", output):
        return ToolchainError(
            f"Building {tool.name}: its Go modules could not be downloaded.",
            "check the network and GOPROXY (`go env GOPROXY`), then start again: what was downloaded is kept",
            details=details,
        )
    if re.search(r"signal: killed|cannot allocate memory", output):
        return ToolchainError(
            f"Building {tool.name}: the compiler was killed, most likely for lack of memory.",
            "give the machine 4 GB of free memory, or set GOMAXPROCS=1, then start again",
            details=details,
        )
    return ToolchainError(
        f"Building {tool.name} failed.",
        f"the whole output: cd {tool.folder} && go build -v {' '.join(tool.packages)}",
        details=details,
    )
