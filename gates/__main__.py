"""``python3 -m gates lint|build|docs|coverage|mutation|molecule|permissions``: what the Makefile's targets call."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gates import artifact, running, sbom
from gates.running import Tools
from sandbox.paths import REPOSITORY, current
from sandbox.toolchain.ensure import ensure
from sandbox.toolchain.errors import Cancelled, ToolchainError
from sandbox.toolchain.progress import Progress
from sandbox.toolchain.runner import Runner


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python3 -m gates", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    lint = commands.add_parser("lint", help="every check that needs no sandbox")
    lint.add_argument("--fresh", action="store_true", help="also what passed on the same content before")
    lint.add_argument("--only", default="", help="comma-separated names of checks")
    lint.add_argument("--list", action="store_true", help="name the checks and end")
    build = commands.add_parser("build", help="the collection's archive")
    build.add_argument("--output", type=Path, default=REPOSITORY / "dist")
    docs = commands.add_parser("docs", help="the site of guides, modules and roles")
    docs.add_argument("--output", type=Path, default=REPOSITORY / "dist" / "site")
    commands.add_parser("coverage", help="how much of the library the unit and contract tests run")
    mutation = commands.add_parser("mutation", help="whether the tests notice a flipped condition in a predicate")
    mutation.add_argument("--only", default="", help="part of a file's name")
    commands.add_parser("permissions", help="which IAM permissions the playbooks need, found by running them")
    molecule = commands.add_parser("molecule", help="every molecule scenario, or those named")
    molecule.add_argument("scenarios", nargs="*")
    return made


def lint(tools: Tools, options: argparse.Namespace, progress: Progress) -> int:
    """Run the checks; one line each, and what the failed ones said at the end."""
    from gates.checks import CHECKS

    if options.list:
        print("\n".join(check.name for check in CHECKS))
        return 0
    wanted = {name.strip() for name in options.only.split(",") if name.strip()}
    unknown = wanted - {check.name for check in CHECKS}
    if unknown:
        names = ", ".join(check.name for check in CHECKS)
        raise ToolchainError(f"Unknown check {', '.join(sorted(unknown))}.", f"choose among {names}")
    started = time.monotonic()
    chosen = [check for check in CHECKS if not wanted or check.name in wanted]
    report = running.run_all(chosen, tools, fresh=options.fresh, progress=progress)
    if report.unchanged:
        print(f"ok  unchanged since they passed: {', '.join(sorted(report.unchanged))}")
    for name, said in report.failed.items():
        print(f"\n!!  {name}\n{said}")
    total = f"{len(report.passed) + len(report.unchanged)} passed, {len(report.failed)} failed"
    print(f"lint: {total}, {time.monotonic() - started:.0f} s")
    return 1 if report.failed else 0


def _dispatch(options: argparse.Namespace, tools: Tools, progress: Progress) -> int:
    if options.command == "lint":
        return lint(tools, options, progress)
    if options.command == "build":
        made = artifact.build(tools, options.output)
        for path in (made, *sbom.write(made)):
            print(f"{path}  {path.stat().st_size} bytes")
        return 0
    if options.command == "docs":
        from gates import site

        print(site.build(tools, options.output))
        return 0
    if options.command == "coverage":
        from gates import coverage

        return coverage.measure(tools)
    if options.command == "molecule":
        from gates import molecule

        return molecule.test(tools, options.scenarios)
    if options.command == "permissions":
        from gates import permissions

        found = permissions.record(tools, progress)
        permissions.write(found)
        print(f"{len(found)} permissions")
        return 0
    from gates import mutation

    return mutation.hunt(tools, options.only, progress)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 passed, 1 not passed, 2 wrong usage, 130 stopped by Ctrl-C."""
    options = parser().parse_args(arguments)
    progress = Progress()
    try:
        paths = current()
        ensure(paths, ["ansible", "gates"], progress=progress)
        return _dispatch(options, Tools(paths, Runner()), progress)
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Cancelled):
        print("Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
