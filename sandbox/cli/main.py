"""Commands of ``./sandbox/sandbox``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from sandbox.cli import environment, logs, network, state, status, up
from sandbox.cli.errors import CliError, need_root, not_up
from sandbox.paths import Paths, current
from sandbox.toolchain.__main__ import listing as tool_listing
from sandbox.toolchain.ensure import GROUPS, KNOWN, ensure
from sandbox.toolchain.errors import Cancelled, ToolchainError
from sandbox.toolchain.progress import Progress

STOPPED = {
    "up": "Stopped. ./sandbox/sandbox up goes on from here, ./sandbox/sandbox down takes away what is there.",
    "down": "Stopped half-way: ./sandbox/sandbox down again finishes it.",
    "tools": "Stopped. Finished tools are kept; start again to go on.",
}
FAULT_HELP = """\
fault plant NAME [ARGUMENT ...]               stockout ZONE [TYPE] | outage REGION-OR-ZONE | not-offered TYPE [ZONE]
                                              gpu-quota LIMIT | quota METRIC LIMIT [REGION] | gke-version VERSION
                                              cluster-busy CLUSTER [SECONDS] | roles E-MAIL [ROLE,ROLE]
                                              api-disabled SERVICE | api-propagation SECONDS [SERVICE] | token-expired
                                              permission-missing PERMISSION | billing-disabled | project-inactive
                                              proxy-subnet-missing
fault plant api [HTTP] [xTIMES] METHOD [ANSWER] [delay=S] [after=N] [late=true] [message=TEXT]
                                              for example: api 503 x3 container.projects.locations.clusters.get
                                              ANSWER: reset, cut, broken, html, text, empty, redirect
fault plant operation METHOD [code=CODE] [MESSAGE]
fault plant '{"method": ..., ...}'            everything else; see sandbox/gcp/README.md
fault list
fault clear [ID or NAME]                      without one: all"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="sandbox", description="GKE on one machine, for the llmd.gke collection.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("up", help="build what is missing, start the network and the Google APIs")
    one.add_argument("--speed", type=_speed, help="how much faster than the real thing (default 60; 0: at once)")
    one.add_argument("--port", type=_port, default=up.DEFAULT_PORT, help="loopback port for browsers (8080; 0: none)")
    commands.add_parser("down", help="take everything away")
    one = commands.add_parser("status", help="what is up (exit code 0 up, 1 dead, 3 down)")
    one.add_argument("--json", action="store_true")
    one = commands.add_parser("exec", help="run a command inside", usage="sandbox exec COMMAND [ARGUMENTS...]")
    one.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("shell", help="a shell inside")
    one = commands.add_parser("logs", help="logs of the sandbox's processes")
    one.add_argument("name", nargs="?", default=state.DAEMON)
    one.add_argument("-f", "--follow", action="store_true")
    one.add_argument("-n", "--lines", type=int, default=50, help="how many (0: all)")
    one.add_argument("--list", action="store_true", help="names of all logs")
    one = commands.add_parser("speed", help="tell or set the speed")
    one.add_argument("speed", type=_speed, nargs="?")
    one = commands.add_parser("fault", help="plant, list, clear faults", usage=FAULT_HELP)
    one.add_argument("action", choices=["plant", "list", "clear"])
    one.add_argument("words", nargs=argparse.REMAINDER)
    one = commands.add_parser("tools", help="build what is missing, nothing else")
    one.add_argument("--only", default="", help=f"comma-separated: {', '.join((*GROUPS, *KNOWN))}")
    one.add_argument("--list", action="store_true", help="what there is")
    return made


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0 (everything at once) to 100000")
    return value


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a port number, or 0 for none")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Errors for people go to stderr, without a traceback."""
    options = parser().parse_args(arguments)
    try:
        return run(options, current())
    except CliError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except (ToolchainError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Cancelled):
        print(STOPPED.get(options.command, ""), file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(options: argparse.Namespace, paths: Paths) -> int:
    """Dispatch. ``options`` as ``parser`` makes them."""
    command = options.command
    if command == "up":
        up.up(paths, speed=options.speed, port=options.port, progress=Progress())
    elif command == "down":
        up.down(paths, Progress())
    elif command == "status":
        found = status.gather(paths)
        print(status.as_json(found) if options.json else status.render(found))
        return status.EXIT_CODES[found.state]
    elif command in ("exec", "shell"):
        enter(paths, options.words if command == "exec" else [os.environ.get("SHELL") or "/bin/sh"])
    elif command == "logs":
        show_logs(paths, options)
    elif command == "speed":
        print(set_speed(paths, options.speed))
    elif command == "fault":
        print(fault(paths, options.action, options.words))
    else:
        tools(paths, options)
    return 0


def show_logs(paths: Paths, options: argparse.Namespace) -> None:
    if options.list:
        print(logs.listing(paths))
    else:
        logs.show(logs.choose(paths, options.name), lines=options.lines, follow=options.follow)


def tools(paths: Paths, options: argparse.Namespace) -> None:
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    if not options.list:
        ensure(paths, only, progress=Progress())
    if not only:
        print("\n".join(tool_listing(paths)) or f"nothing in {paths.cache} yet")


def require_up(paths: Paths, action: str) -> None:
    """Fail unless the sandbox's network is there, its daemon lives, and the caller may enter."""
    condition = state.condition(paths)
    if condition == state.DOWN:
        raise not_up(paths.name)
    if condition == state.DEAD:
        raise CliError(
            f"The sandbox {paths.name!r} is dead: its daemon is gone.",
            "./sandbox/sandbox up starts afresh (the clusters in it are lost)",
            code=3,
        )
    if os.geteuid() != 0:
        raise need_root(action)


def enter(paths: Paths, words: Sequence[str]) -> None:
    """Become the command inside the fabric namespace: its exit code and signals are then its own."""
    words = list(words[1:] if words[:1] == ["--"] else words)
    if not words:
        raise CliError("No command given.", "for example: ./sandbox/sandbox exec kubectl get nodes", code=2)
    require_up(paths, "enter the sandbox")
    variables = environment.inside(paths)
    variables["LLMD_SANDBOX"] = paths.name
    try:
        network.enter(network.namespace_file(paths.fabric))  # the only thread: the whole process moves
        sys.stdout.flush()
        os.execvpe(words[0], words, variables)
    except FileNotFoundError as error:
        raise CliError(f"There is no command {words[0]!r}.", f"tools of the sandbox: {paths.bin}", code=127) from error
    except PermissionError as error:
        raise CliError(f"{words[0]!r} cannot be run: {error.strerror}.", code=126) from error


def call(paths: Paths, method: str, path: str, body: Any = None) -> Any:
    """Call the daemon's control interface, with its refusals and its silence as ``CliError``."""
    require_up(paths, "steer the sandbox")
    try:
        return network.control(paths, method, path, body)
    except network.ControlError as error:
        raise CliError(str(error), code=2) from error
    except (OSError, ValueError) as error:
        raise CliError(f"The sandbox's daemon does not answer: {error}", "look at ./sandbox/sandbox logs") from error


def set_speed(paths: Paths, speed: float | None) -> str:
    if speed is not None:
        call(paths, "POST", "speed", {"speed": speed})
    else:
        speed = float(call(paths, "GET", "status").get("speed", 0))
    return "speed 0: everything at once" if speed == 0 else f"speed {speed:g}: a minute takes {60 / speed:.3g} s"


def fault(paths: Paths, action: str, words: Sequence[str]) -> str:
    """Plant, list or clear faults; the daemon's answer as text."""
    if action == "plant":
        if not words:
            raise CliError("Which fault?", "\n" + FAULT_HELP, code=2)
        answer = call(paths, "POST", "faults", {"words": list(words)})
        return json.dumps(answer.get("planted", answer) if isinstance(answer, dict) else answer)
    if action == "clear":
        answer = call(paths, "DELETE", f"faults/{quote(words[0], safe='')}" if words else "faults")
        return f"cleared {answer.get('cleared', '')}".rstrip() if isinstance(answer, dict) else "cleared"
    planted = call(paths, "GET", "faults")
    if isinstance(planted, dict):
        planted = planted.get("faults", planted)
    return "\n".join(json.dumps(one) for one in planted) if planted else "no faults planted"
