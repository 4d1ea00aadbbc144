"""Bring everything that is missing into the cache, and nothing else.

Two lanes run side by side, as one is bound by the processors (Go) and the other by the network (packages and virtual
environments); images and charts follow, as they need both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.paths import Paths
from sandbox.toolchain import content, debian, gotools, locks, parts, venvs
from sandbox.toolchain.errors import Cancelled, ToolchainError, disk_full, is_disk_full
from sandbox.toolchain.progress import Progress, Step
from sandbox.toolchain.runner import Runner

VENVS = ("sandbox", "envoy", "ansible")
GATES = ("lint", *venvs.CORES)
GROUPS: dict[str, tuple[str, ...]] = {
    "go": tuple(tool.name for tool in gotools.GO_TOOLS),
    "venvs": VENVS,
    "gates": GATES,
    "parts": tuple(part.name for part in parts.PARTS),
}
# Optional packages and the environments of the gates are brought only when asked for by name.
STANDARD = ("packages", *VENVS, *GROUPS["go"], *GROUPS["parts"])
GROUPS["standard"] = STANDARD
KNOWN = (*STANDARD, *GATES, *debian.OPTIONAL)


@dataclass
class Report:
    """What ``ensure`` found and made. ``built`` and ``cached`` name items; ``seconds`` is the whole run."""

    built: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class _Work:
    paths: Paths
    progress: Progress
    run: Runner
    report: Report

    def lock_of(self, name: str) -> Path:
        return self.paths.cache / "locks" / f"{name}.lock"

    def once(self, name: str, title: str, is_built: Callable[[], bool], build: Callable[[Step], None]) -> None:
        """Build ``name`` under its lock unless it is there, looking again once the lock is held."""
        if is_built():
            self.report.cached.append(name)
            return
        with locks.hold(self.lock_of(name), title, say=self.progress.say):
            if is_built():  # made by the one we waited for
                self.report.cached.append(name)
                return
            with self.progress.step(title) as step:
                build(step)
            self.report.built.append(name)


def expand(names: Iterable[str]) -> list[str]:
    """Item names for what the person wrote (groups ``go``, ``venvs``, ``parts``), in the standard order."""
    wanted: set[str] = set()
    for name in names:
        if name not in GROUPS and name not in KNOWN:
            raise ToolchainError(f"Unknown tool {name!r}.", f"choose among {', '.join((*GROUPS, *KNOWN))}")
        wanted.update(GROUPS.get(name, (name,)))
    return [name for name in KNOWN if name in wanted]


def ensure(paths: Paths, only: Sequence[str] = (), *, progress: Progress | None = None) -> Report:
    """Make sure that the items (all standard ones when ``only`` is empty) are in the cache and linked.

    Raises ``ToolchainError`` with what to do. Whatever was finished stays; nothing unfinished does.
    """
    wanted = expand(only) if only else list(STANDARD)
    started = time.monotonic()
    work = _Work(paths, progress or Progress(), Runner(), Report())
    _check_cache(paths)
    try:
        _lanes(work, wanted)
        _parts(work, wanted)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full("preparing the tools", [paths.cache]) from error
        raise
    work.report.seconds = time.monotonic() - started
    if work.report.built or set(STANDARD) <= set(wanted):
        total = len(work.report.built) + len(work.report.cached)
        made = f", {len(work.report.built)} of them new" if work.report.built else ""
        work.progress.say(f"ok  tools: {total} ready in {paths.cache}{made}, {work.report.seconds:.1f} s")
    return work.report


def _check_cache(paths: Paths) -> None:
    existing = next(path for path in (paths.cache, *paths.cache.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise ToolchainError(
            f"The tools are kept in {paths.cache}, which this user cannot write.",
            "run as root, or choose another folder: export LLMD_SANDBOX_CACHE=$HOME/.cache/llmd-gke",
        )


def _lanes(work: _Work, wanted: Sequence[str]) -> None:
    tools = [tool for tool in gotools.GO_TOOLS if tool.name in wanted]
    environments = [name for name in (*VENVS, *GATES) if name in wanted]
    lanes: list[Callable[[], None]] = []
    if tools:
        lanes.append(lambda: _go_lane(work, tools))
    if environments or "packages" in wanted or any(name in wanted for name in debian.OPTIONAL):
        lanes.append(lambda: _network_lane(work, wanted, environments))
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="lane") as pool:
        futures = [pool.submit(lane) for lane in lanes]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in futures):
                work.run.cancel()
                wait(futures)
        except KeyboardInterrupt:
            work.run.cancel()
            raise
    _raise_first(futures)


def _raise_first(futures: Sequence[Future[None]]) -> None:
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    for error in sorted(errors, key=lambda item: isinstance(item, Cancelled)):
        raise error


def _go_lane(work: _Work, tools: Sequence[gotools.GoTool]) -> None:
    go = gotools.find_go(work.run)
    for tool in tools:
        final = work.paths.cache / "builds" / f"{tool.name}-{gotools.key(tool, go)}"
        _go_tool(work, tool, go, final)
        for name in tool.binaries:
            content.link(work.paths.bin / name, final / name)


def _go_tool(work: _Work, tool: gotools.GoTool, go: gotools.Go, final: Path) -> None:
    work.once(
        tool.name,
        f"build {tool.name}",
        lambda: gotools.is_built(tool, final),
        lambda step: gotools.build(tool, go, final, work.run, step),
    )


def _network_lane(work: _Work, wanted: Sequence[str], environments: Sequence[str]) -> None:
    if "packages" in wanted:
        _packages(work, "packages", debian.PACKAGES)
    for name, packages in debian.OPTIONAL.items():
        if name in wanted:
            _packages(work, name, packages)
    for name in environments:
        _venv(work, venvs.plan(name, work.run))


def _packages(work: _Work, name: str, packages: Sequence[debian.Package]) -> None:
    def build(step: Step) -> None:
        # apt's work has one lock for all items, as the policy file is one.
        with locks.hold(work.lock_of("apt"), "installing packages", say=work.progress.say):
            debian.install(debian.missing(packages, work.run), work.run, step)

    if os.geteuid() == 0 and debian.was_interrupted():
        with locks.hold(work.lock_of("apt"), "installing packages", say=work.progress.say):
            debian.heal_policy()
    work.once(name, f"Debian {name}", lambda: not debian.missing(packages, work.run), build)


def _venv(work: _Work, venv: venvs.Venv) -> None:
    folder = venv.folder(work.paths.venvs)
    work.once(
        venv.name,
        f"Python environment {venv.name}",
        lambda: venvs.is_built(venv, folder),
        lambda step: venvs.build(venv, folder, work.run, step),
    )
    content.link(work.paths.venvs / venv.name, folder)


def _parts(work: _Work, wanted: Sequence[str]) -> None:
    for part in parts.PARTS:
        if part.name not in wanted or not part.exists():
            continue
        final = work.paths.cache / "builds" / f"{part.name}-{parts.key(part, work.paths)}"
        _part(work, part, final)
        content.link(work.paths.cache / part.name, final)


def _part(work: _Work, part: parts.Part, final: Path) -> None:
    work.once(
        part.name,
        f"make {part.name}",
        lambda: content.is_complete(final),
        lambda step: parts.build(part, final, work.paths, work.run),
    )
