"""The gates themselves: what counts as unchanged, what a workflow must be, what is flipped, what has a scenario."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gates import ansible_test, molecule, mutants, mutation, running, site, stamps, workflows
from gates.checks import CHECKS, SHIPPED, shell_scripts
from gates.running import Check, GateError, Tools
from sandbox.paths import REPOSITORY, Paths
from sandbox.toolchain.progress import Progress
from sandbox.toolchain.runner import Result


def no_program(command: Any, **_: Any) -> Result:
    raise AssertionError(command)


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(Paths("unit", tmp_path / "cache", tmp_path / "state"), no_program)


# --- stamps -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "a/__pycache__").mkdir(parents=True)
    (root / "a/one.py").write_text("1")
    (root / "a/__pycache__/one.pyc").write_text("1")
    (root / "b.txt").write_text("2")
    (root / "a/self").symlink_to("..")
    return root


def test_the_key_changes_with_content_name_mode_and_settings_and_with_nothing_else(tree: Path) -> None:
    first = stamps.key(tree, ["a", "b.txt"], "x")
    (tree / "a/__pycache__/one.pyc").write_text("other")
    (tree / "c.txt").write_text("not asked for")
    assert stamps.key(tree, ["b.txt", "a"], "x") == first
    assert stamps.key(tree, ["a", "b.txt"], "y") != first
    assert stamps.key(tree, ["a"], "x") != first
    (tree / "a/one.py").chmod(0o755)
    assert stamps.key(tree, ["a", "b.txt"], "x") != first
    (tree / "a/one.py").chmod(0o644)
    (tree / "a/one.py").write_text("3")
    assert stamps.key(tree, ["a", "b.txt"], "x") != first


def test_only_what_passed_is_not_run_again(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "REPOSITORY", tools.paths.state)
    ran: list[str] = []

    def fails(_: Tools) -> None:
        ran.append("fails")
        raise GateError("no")

    checks = [Check("passes", ("x",), lambda _: ran.append("passes")), Check("fails", ("x",), fails)]
    for fresh, expected in ((False, ["fails", "passes"]), (False, ["fails"]), (True, ["fails", "passes"])):
        ran.clear()
        report = running.run_all(checks, tools, fresh=fresh, progress=Progress(quiet=True), lanes=1)
        assert sorted(ran) == expected
        assert report.failed == {"fails": "no"}


def test_every_check_looks_at_something_that_is_there() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert stamps.files_below(REPOSITORY, check.inputs), check.name
        for pin in check.pins:
            assert (REPOSITORY / "sandbox/toolchain" / pin).is_file()


def test_what_is_left_out_of_the_archive_is_not_among_its_inputs() -> None:
    ignored = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["build_ignore"]
    assert not set(ignored) & set(SHIPPED)
    tracked = {path.name for path in REPOSITORY.iterdir() if not path.name.startswith(".")}
    left = tracked - set(ignored) - {name.split("/")[0] for name in SHIPPED}
    assert {name for name in left if not name.endswith((".tar.gz", ".md"))} <= {"build", "artifacts"}


def test_no_rule_is_skipped() -> None:
    lint = yaml.safe_load((REPOSITORY / ".ansible-lint").read_text())
    assert lint["profile"] == "production"
    assert not lint.keys() & {"skip_list", "warn_list", "skip_action_validation"}
    assert {"role-argument-spec", "no-log-password", "empty-string-compare"} <= set(lint["enable_list"])
    assert not list((REPOSITORY / "tests").glob("sanity/ignore*.txt"))
    assert not (REPOSITORY / ".ansible-lint-ignore").exists()
    assert tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]["strict"] is True


def test_shell_scripts_are_found_by_their_first_line() -> None:
    assert {".ci/run", "sandbox/python", "sandbox/sandbox"} <= set(shell_scripts())


# --- workflows --------------------------------------------------------------------------------------------------------


def test_the_workflow_of_forks_is_in_order() -> None:
    assert workflows.check(REPOSITORY) == []


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"run": "make no-such-target"}, "no target no-such-target"),
        ({"run": "cd x && make --silent nothing"}, "no target nothing"),
        ({"uses": "actions/checkout"}, "not pinned"),
        ({"name": "nothing"}, "neither or both"),
    ],
)
def test_a_broken_workflow_is_named(step: dict[str, str], says: str) -> None:
    job = {"runs-on": "x", "timeout-minutes": 1, "steps": [step]}
    document = {"name": "n", "on": {}, "permissions": {}, "jobs": {"j": job}}
    found = workflows.problems_of("f", document, {"lint"})
    assert len(found) == 1
    assert says in found[0]
    assert (
        workflows.problems_of("f", {**document, "jobs": {"j": {**job, "steps": [{"run": "make lint"}]}}}, {"lint"})
        == []
    )


# --- mutants ----------------------------------------------------------------------------------------------------------

SOURCE = '''\
def ready(a: int, b: str = "x") -> bool:
    """Whether it is."""
    return a > 1 and not b in ("x",)


def other(a: int) -> int:
    return a if a > 1 else 0


def never() -> bool:
    return False
'''


def test_every_condition_of_a_predicate_is_flipped_once_and_nothing_else() -> None:
    made = mutants.mutants(SOURCE)
    assert {one.function for one in made} == {"ready", "never"}
    bodies = {ast.unparse(ast.parse(one.source)) for one in made}
    assert len(bodies) == len(made) == 5  # and, >, not, in, False
    for wanted in ("a > 1 or", "a <= 1 and", "and b in", "not b not in", "return True"):
        assert sum(wanted in body for body in bodies) == 1, wanted
    assert all("return a if a > 1 else 0" in body for body in bodies)


def test_the_librarys_predicates_are_found() -> None:
    orders = mutation.orders("kube/conditions")
    assert orders
    assert all(order.near for order in orders)  # tests that name the module
    assert not any("sandbox_" in test for order in orders for test in [*order.near, *order.far])


# --- molecule ---------------------------------------------------------------------------------------------------------


def test_every_scenario_is_a_roles_or_a_playbooks_and_verifies_something() -> None:
    """That no role is without one is what `make molecule` insists on before it begins."""
    roles = {path.name for path in (REPOSITORY / "roles").iterdir()}
    playbooks = {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")}
    assert set(molecule.known()) - {"default"} <= roles | playbooks
    for name in set(molecule.known()) - {"default"}:
        plays = yaml.safe_load((molecule.SCENARIOS / name / "verify.yml").read_text())
        assert any("assert" in str(play) or "import_playbook" in str(play) for play in plays), name


def test_a_role_without_a_scenario_is_named(tmp_path: Path) -> None:
    (tmp_path / "no_such_scenario").mkdir()
    (tmp_path / "verify").mkdir()
    assert molecule.missing(tmp_path) == ["no_such_scenario"]


def test_a_scenario_that_matches_no_host_fails() -> None:
    configuration = yaml.safe_load((molecule.SCENARIOS / "config.yml").read_text())
    assert configuration["ansible"]["env"]["ANSIBLE_HOST_PATTERN_MISMATCH"] == "error"
    assert configuration["shared_state"] is True


# --- ansible-test -----------------------------------------------------------------------------------------------------


def test_of_a_failed_ansible_test_only_the_findings_are_shown() -> None:
    said = "Running sanity test\nCollecting pip\nERROR: plugins/a.py:1:1: no-assert\nRunning sanity test"
    assert ansible_test.findings(said) == "ERROR: plugins/a.py:1:1: no-assert"
    assert ansible_test.findings("it died\nwithout a word") == "it died\nwithout a word"


# --- the site ---------------------------------------------------------------------------------------------------------


def test_links_stay_on_the_site_where_the_page_is_there_and_go_to_the_repository_elsewhere() -> None:
    page = "[a](../README.md#x) [b](../roles/) [c](#y) [d](https://e.example)\n```\n[e](../gone.md)\n```\n"
    made = site.with_links(page, "docs/page.md", ["README.md"], "https://git.example/r")
    assert made == page.replace("(../roles/)", "(https://git.example/r/blob/main/roles)")


def test_the_site_has_every_guide_and_every_role() -> None:
    names = site.pages(REPOSITORY)
    assert names[0] == "README.md"
    assert len(names) == len(set(names))
    assert {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.md")} <= set(names)
    index = site.index(names)
    for role in (path.name for path in (REPOSITORY / "roles").iterdir()):
        if (REPOSITORY / "roles" / role / "README.md").is_file():
            assert f"roles/{role}/README\n" in index
    assert "collections/llmd/gke/index" in index
