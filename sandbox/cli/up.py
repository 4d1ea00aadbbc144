"""``sandbox up`` and ``sandbox down``."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from sandbox import processes
from sandbox.cli import capacity, environment, forward, leftovers, network, state, status
from sandbox.cli.errors import CliError, need_root
from sandbox.paths import API_ADDRESS, REPOSITORY, Paths
from sandbox.toolchain import locks
from sandbox.toolchain.ensure import ensure
from sandbox.toolchain.progress import Progress

DEFAULT_SPEED = 60.0
DEFAULT_PORT = 8080
START_SECONDS = 60.0
_REEXEC = "LLMD_SANDBOX_REEXEC"


def lock(paths: Paths, progress: Progress) -> AbstractContextManager[None]:
    """One `up` or `down` of a sandbox at a time. The lock lives in the cache, as down removes the state folder."""
    file = paths.cache / "locks" / f"sandbox-{paths.name}.lock"
    return locks.hold(file, "sandbox up or down", say=progress.say, timeout=900)


def up(paths: Paths, *, speed: float | None, port: int, progress: Progress) -> None:
    """Bring the sandbox up, from whatever condition it is in; idempotent."""
    if sys.platform != "linux":
        raise CliError("The sandbox needs Linux: it is made of network namespaces.")
    if os.geteuid() != 0:
        raise need_root("bring the sandbox up")
    ensure(paths, progress=progress)
    _continue_in_venv(paths)
    with lock(paths, progress):
        condition = state.condition(paths)
        if condition == state.UP:
            _already_up(paths, speed, progress)
        else:
            _start(paths, condition, DEFAULT_SPEED if speed is None else speed, progress)
        _forwarder(paths, port, progress)
    print(summary(paths))


def _continue_in_venv(paths: Paths) -> None:
    """Go on in the sandbox's own Python environment: the fabric's and the clusters' code needs its packages."""
    python = paths.venvs / "sandbox" / "bin" / "python"
    if Path(sys.prefix).resolve() == (paths.venvs / "sandbox").resolve() or os.environ.get(_REEXEC):
        return
    os.environ[_REEXEC] = "1"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, [str(python), "-P", str(REPOSITORY / "sandbox" / "cli" / "__main__.py"), *sys.argv[1:]])


def _already_up(paths: Paths, speed: float | None, progress: Progress) -> None:
    try:
        network.control(paths, "GET", "status", timeout=10)
    except (OSError, ValueError, network.ControlError) as error:
        raise CliError(
            f"The sandbox's daemon runs but does not answer: {error}",
            "look at ./sandbox/sandbox logs; ./sandbox/sandbox down and up start afresh",
        ) from error
    record = state.read_record(paths)
    if record and record.repository != str(REPOSITORY):
        progress.say(f"note: this sandbox was brought up from {record.repository} and runs the code there")
    if speed is not None:
        network.control(paths, "POST", "speed", {"speed": speed})
    progress.say("ok  the sandbox is up already")


def _start(paths: Paths, condition: str, speed: float, progress: Progress) -> None:
    if condition != state.DOWN:
        with progress.step("clean up what an earlier one left"):
            take_down(paths)
    from sandbox import fabric

    if note := capacity.inotify_note():
        progress.say(note)
    with progress.step("network (fabric)"):
        _make_state(paths)
        fabric.create(paths)
    with progress.step("Google APIs (daemon)") as step:
        _start_daemon(paths, speed)
        step.note = f"http://{API_ADDRESS}/ inside"
    state.write_record(paths, state.Record(str(REPOSITORY), state.boot_id(), speed, time.time()))


def _make_state(paths: Paths) -> None:
    try:
        paths.state.mkdir(parents=True, exist_ok=True, mode=0o755)
        paths.logs.mkdir(exist_ok=True)
    except OSError as error:
        raise CliError(f"{paths.state} cannot be made: {error}", "choose a place with LLMD_SANDBOX_STATE") from error


def _start_daemon(paths: Paths, speed: float) -> None:
    python = paths.venvs / "sandbox" / "bin" / "python"
    log = paths.logs / "daemon.log"
    daemon = processes.start(
        state.DAEMON,
        [str(python), "-P", "-m", "sandbox.daemon", "--speed", f"{speed:g}"],
        folder=state.folder(paths),
        log=log,
        namespace=paths.fabric,
        environment=environment.for_daemon(paths),
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            network.control(paths, "GET", "status", timeout=2)
            return
        except (OSError, ValueError, network.ControlError) as error:
            last = error
        processes.reap(daemon.pid)
        if not daemon.alive():
            raise CliError(f"The daemon ended while starting. Its last words:\n{_tail(log)}", f"the whole log: {log}")
        if time.monotonic() > deadline:
            raise CliError(
                f"The daemon did not answer within {START_SECONDS:.0f} s ({last}). Its last words:\n{_tail(log)}",
                f"the whole log: {log}; ./sandbox/sandbox down ends it",
            )
        time.sleep(0.1)


def _tail(log: Path, lines: int = 15) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "  (none)"
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:]) or "  (none)"


def _forwarder(paths: Paths, port: int, progress: Progress) -> None:
    """Have the loopback port for browsers, unless ``port`` is 0. Never a reason for `up` to fail."""
    if port == 0 or state.alive(paths, state.FORWARD):
        return
    forward.record_file(paths).unlink(missing_ok=True)
    process = processes.start(
        state.FORWARD,
        [sys.executable, "-P", "-m", "sandbox.cli.forward", "--port", str(port)],
        folder=state.folder(paths),
        log=paths.logs / "forward.log",
        environment=environment.for_daemon(paths),
    )
    deadline = time.monotonic() + 5
    while not forward.record_file(paths).exists() and process.alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    got = status.browser_port(paths)
    if got is None:
        processes.stop(process, state.folder(paths), grace=1)
        progress.say(
            f"warning: no loopback port for a browser: {port} and the next {forward.TRIES - 1} are taken. "
            "All else works; another one: ./sandbox/sandbox up --port N"
        )
    elif got != port:
        progress.say(
            f"warning: port {port} is taken by another program; a browser reaches the gateway on {got} instead"
        )


def summary(paths: Paths) -> str:
    """What `up` says at its end."""
    found = status.gather(paths)
    me = _command()
    clusters = f"{len(found.clusters)} cluster(s)" if found.clusters else "no cluster yet: a playbook makes it"
    lines = [
        f"The sandbox {paths.name!r} is up ({clusters}).",
        f"  tools     {paths.bin}",
        f"  state     {paths.state}   (logs: {paths.logs})",
        f"  settings  {paths.environment_file}",
    ]
    if found.port:
        lines.append(f"  browser   http://127.0.0.1:{found.port}/   (once there is a Gateway)")
    lines += [
        "Try:",
        f"  {me} exec curl -s http://{API_ADDRESS}/control/status",
        f"  ansible-playbook {_shown(REPOSITORY / 'playbooks' / 'pattern1.yml')}   (or: make demo)",
    ]
    return "\n".join(lines)


def _command() -> str:
    return _shown(REPOSITORY / "sandbox" / "sandbox", prefix="./")


def _shown(path: Path, prefix: str = "") -> str:
    """``path`` as one types it here: relative when below the current folder."""
    try:
        return prefix + str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def down(paths: Paths, progress: Progress) -> None:
    """Take everything of this sandbox away; idempotent, also after a kill or a reboot."""
    condition = state.condition(paths)
    if condition == state.DOWN:
        progress.say(f"The sandbox {paths.name!r} is down.")
        return
    if os.geteuid() != 0:
        raise need_root("take the sandbox down")
    _continue_in_venv_for_down(paths)
    with lock(paths, progress):
        with progress.step("take the sandbox down"):
            left = take_down(paths)
        if left:
            raise CliError(
                "Not everything could be taken away:\n" + "\n".join(f"  {line}" for line in left),
                "end the programs that hold it, then ./sandbox/sandbox down again",
            )
        progress.say(f"The sandbox {paths.name!r} is down.")


def _continue_in_venv_for_down(paths: Paths) -> None:
    if (paths.venvs / "sandbox" / "bin" / "python").exists():
        _continue_in_venv(paths)


def take_down(paths: Paths) -> list[str]:
    """End and remove everything; what is left in spite of it, one line each."""
    processes.stop_all(state.folder(paths), grace=20)
    problems: list[str] = []
    for step in (_cleanup_clusters, _destroy_fabric):
        try:
            step(paths)
        except Exception as error:  # whatever it is, the general cleaning below must still be tried
            problems.append(f"{step.__name__.strip('_')}: {error}")
    left = leftovers.remove(paths)
    return [*problems, *left] if left else []


def _cleanup_clusters(paths: Paths) -> None:
    from sandbox.kubernetes.cleanup import cleanup

    cleanup(paths)


def _destroy_fabric(paths: Paths) -> None:
    from sandbox import fabric

    fabric.destroy(paths)
