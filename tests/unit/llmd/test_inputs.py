"""Variables as people give them: misspelt, empty, as texts; and an Ansible that cannot run the collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.action import check_inputs
from ansible_collections.llmd.gke.plugins.module_utils.llmd import inputs

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = check_inputs.options_of("llmd")
ROLES = check_inputs.role_names()


def problems(given: dict[str, Any], elsewhere: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    found = inputs.problems_of(given, elsewhere, OPTIONS, ROLES)
    return [(one.code, one.name) for one in found]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("llmd_zon", "llmd_zone"),
        ("llmd_porject", "llmd_project"),
        ("llmd_replica", "llmd_replicas"),
        ("llmd_max_model_length", "llmd_max_model_len"),
        ("llmd_owner", None),  # might be a person's own
        ("llmd_team", None),
    ],
)
def test_a_misspelt_extra_variable_is_answered_with_the_right_name(name: str, meant: str | None) -> None:
    found = inputs.problems_of({name: "x"}, (), OPTIONS, ROLES)
    assert [one.code for one in found] == (["VARIABLE_MISSPELT"] if meant else [])
    assert inputs.strangers([name], OPTIONS, "llmd_") == ([] if meant else [name])
    if meant:
        assert f"write {meant}," in found[0].text()
        assert "extra variables" in found[0].text()


def test_a_misspelt_variable_of_the_inventory_is_named_and_where_it_stands() -> None:
    assert problems({}, ("llmd_zon",)) == [("VARIABLE_MISSPELT", "llmd_zon")]
    assert "in the inventory" in inputs.problems_of({}, ("llmd_zon",), OPTIONS, ROLES)[0].text()


def test_what_the_collection_itself_sets_is_not_misspelt() -> None:
    own = ("llmd_marks", "llmd__profile", "llmd_gke_verify", "llmd_helmfile_tool", "llmd_helmfile_result", "ansible_x")
    assert problems(dict.fromkeys(own, "x"), own) == []
    assert inputs.strangers(("llmd_gke_verify", "llmd_helmfile_tool"), OPTIONS, "llmd_", ["llmd_helmfile_"]) == []


def test_every_documented_variable_is_known() -> None:
    assert problems({}, tuple(OPTIONS)) == []
    assert {"llmd_project", "llmd_zone", "llmd_confirm"} <= set(OPTIONS)


def test_every_variable_of_the_example_inventory_is_known() -> None:
    text = (ROOT / "inventories/example/group_vars/llmd.yml").read_text()
    names = {line.lstrip("# ").partition(":")[0] for line in text.splitlines() if line.lstrip("# ").startswith("llmd_")}
    assert len(names) > 15
    assert problems(dict.fromkeys(names, 1)) == []
    assert inputs.strangers(names, OPTIONS, "llmd_") == []


@pytest.mark.parametrize("name", ["llmd_project", "llmd_zone", "llmd_region", "llmd_replicas", "llmd_gpu"])
def test_an_empty_answer_for_what_must_not_be_empty_is_named(name: str) -> None:
    assert problems({name: ""}) == [("VARIABLE_EMPTY", name)]


@pytest.mark.parametrize("name", ["llmd_confirm", "llmd_chart_source", "llmd_hf_token"])
def test_an_empty_answer_is_fine_where_empty_means_something(name: str) -> None:
    assert problems({name: ""}) == []


@pytest.mark.parametrize("value", ["3", " 3", 3])
def test_a_number_as_a_text_is_a_number(value: Any) -> None:
    assert problems({"llmd_replicas": value}) == []


@pytest.mark.parametrize(
    ("name", "value"), [("llmd_replicas", "three"), ("llmd_replicas", "2.5"), ("llmd_gpu_memory_utilization", "much")]
)
def test_a_text_that_is_no_number_is_named(name: str, value: str) -> None:
    assert problems({name: value}) == [("VARIABLE_NOT_A_NUMBER", name)]


def test_a_text_instead_of_a_dictionary_is_named() -> None:
    assert problems({"llmd_gpu": "type=nvidia-l4"}) == [("VARIABLE_NOT_STRUCTURED", "llmd_gpu")]
    assert problems({"llmd_gpu": {"type": "nvidia-l4"}, "llmd_preflight_skip": []}) == []


def test_a_misspelt_variable_of_a_role_is_answered_with_the_right_name() -> None:
    found = check_inputs.role_problems({"benchmark_concurency": [1], "benchmark_concurrency": [1], "other": 1})
    assert [(one.code, one.name) for one in found] == [("VARIABLE_MISSPELT", "benchmark_concurency")]
    assert "benchmark_concurrency" in found[0].remedy


@pytest.mark.parametrize(
    ("core", "python", "missing", "codes"),
    [
        ("2.19.14", (3, 11), [], []),
        ("2.21.5", (3, 12), [], []),
        ("2.22.0.dev0", (3, 13), [], []),
        ("2.18.19", (3, 11), [], ["ANSIBLE_UNSUPPORTED"]),
        ("2.9.27", (3, 11), [], ["ANSIBLE_UNSUPPORTED"]),
        ("2.19.0", (3, 10), [], ["PYTHON_UNSUPPORTED"]),
        ("2.19.0", (3, 11), ["kubernetes.core"], ["COLLECTION_MISSING"]),
    ],
)
def test_what_cannot_run_the_collection_is_said_with_the_command_that_helps(
    core: str, python: tuple[int, ...], missing: list[str], codes: list[str]
) -> None:
    said = check_inputs.unsupported(core, python, missing)
    assert [text.partition(":")[0] for text in said] == codes
    for text in said:
        assert "\nWhat now: " in text
        assert "install" in text


def test_the_oldest_versions_are_those_of_the_metadata() -> None:
    runtime = (ROOT / "meta/runtime.yml").read_text()
    assert f'requires_ansible: ">={".".join(map(str, check_inputs.OLDEST_CORE))}.0"' in runtime


def test_every_code_is_documented() -> None:
    documented = (ROOT / "docs/errors/README.md").read_text()
    sources = [ROOT / "plugins/action/check_inputs.py", ROOT / "plugins/module_utils/llmd/inputs.py"]
    text = "".join(path.read_text() for path in sources)
    codes = ("VARIABLE_EMPTY", "VARIABLE_MISSPELT", "VARIABLE_NOT_A_NUMBER", "VARIABLE_NOT_STRUCTURED")
    for code in (*codes, "ANSIBLE_UNSUPPORTED", "PYTHON_UNSUPPORTED", "COLLECTION_MISSING"):
        assert code in text
        assert f"| `{code}` |" in documented
