"""``make coverage``: lines and branches of the library that its unit and contract tests run, in this process tree."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from gates.running import Tools
from sandbox.paths import REPOSITORY

LEAST = 90.0  # per cent of lines
LIBRARY = "plugins"
TESTS = ("tests/unit",)
CONFIGURATION = """\
[run]
branch = true
parallel = true
patch = subprocess
source = {library}
data_file = {data}
[report]
# Folders without __init__.py, too: a file that no test ever loads counts as uncovered.
include_namespace_packages = true
exclude_also =
    if TYPE_CHECKING:
    @(abc\\.)?abstractmethod
"""


def measure(tools: Tools) -> int:
    """Run the tests under coverage, print the table, and judge the share of lines."""
    with tempfile.TemporaryDirectory(prefix="llmd-coverage-") as folder:
        configuration = Path(folder) / "coveragerc"
        text = CONFIGURATION.format(library=REPOSITORY / LIBRARY, data=Path(folder) / "data")
        configuration.write_text(text, encoding="utf-8")
        environment = tools.environment("ansible", COVERAGE_RCFILE=str(configuration))
        # Coverage is not in the environment of the tests: it is lent by the one of the gates, which is of the same
        # Python for that (its tracer is compiled).
        site = next((tools.venv("lint") / "lib").glob("python3.*/site-packages/coverage"))
        lent = Path(folder) / "lent"
        lent.mkdir()
        (lent / "coverage").symlink_to(site)
        environment["PYTHONPATH"] = str(lent)
        python = str(tools.venv("ansible") / "bin" / "python")
        sys.stdout.flush()
        # In one process: what pytest-xdist's workers have seen is lost, for they are not ended in order.
        command = [python, "-m", "coverage", "run", "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
        tests = subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode
        if tests != 0:
            return tests
        report = Path(folder, "report.json")
        for words in (["combine", "--quiet"], ["json", "--quiet", "-o", str(report)], ["report", "--skip-covered"]):
            subprocess.run([python, "-m", "coverage", *words], cwd=REPOSITORY, env=environment, check=True)
        totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    lines = 100 * totals["covered_lines"] / totals["num_statements"]
    branches = 100 * totals["covered_branches"] / totals["num_branches"]
    counted = f"{totals['num_statements']} lines, {branches:.1f} % of {totals['num_branches']} branches"
    print(f"coverage of {LIBRARY}: {lines:.1f} % of {counted} (at least {LEAST:.0f} % of lines are wanted)")
    return 0 if lines >= LEAST else 1
