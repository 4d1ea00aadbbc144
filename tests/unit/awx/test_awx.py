"""awx/ as data: every playbook has a job template, every survey asks for documented variables, AWX knows every option.

Where awx.awx is installed (Ansible's bundle 12 and 13 hold it), its own modules' options judge the data; the shapes
below, which are ours, judge it everywhere.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule as CoreFilters
from ansible_collections.llmd.gke.plugins.action import check_inputs
from ansible_collections.llmd.gke.plugins.lookup.pattern import read_pattern

ROOT = Path(__file__).resolve().parents[3]
AWX = ROOT / "awx"
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
SURVEY_TYPES = {
    "str": {"text", "textarea", "password", "multiplechoice"},
    "int": {"integer"},
    "float": {"float", "integer"},
    "bool": {"multiplechoice"},
}
RULE = r"^DTSTART:\d{8}T\d{6}Z RRULE:FREQ=(HOURLY|DAILY|WEEKLY);INTERVAL=\d+"
NAME = {"type": "string", "pattern": "^llmd_[a-z0-9_]+$"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "awx_credential_types": {
        "required": ["name", "description", "kind", "inputs", "injectors"],
        "properties": {
            "name": NAME,
            "kind": {"enum": ["cloud", "net"]},
            "inputs": {
                "required": ["fields", "required"],
                "properties": {"fields": {"items": {"required": ["id", "label", "type"]}}},
            },
            "injectors": {
                "additionalProperties": False,
                "properties": {"env": {"type": "object"}, "file": {"type": "object"}},
            },
        },
    },
    "awx_workflows": {
        "required": ["name", "description", "survey", "nodes"],
        "properties": {
            "name": NAME,
            "nodes": {
                "items": {
                    "required": ["identifier", "unified_job_template", "related"],
                    "properties": {
                        "unified_job_template": {
                            "properties": {"type": {"enum": ["job_template", "workflow_approval"]}}
                        },
                        "related": {
                            "additionalProperties": False,
                            "properties": {"success_nodes": {}, "failure_nodes": {}, "always_nodes": {}},
                        },
                    },
                }
            },
        },
    },
    "awx_schedules": {
        "required": ["name", "description", "unified_job_template", "rrule", "enabled"],
        "properties": {"name": NAME, "rrule": {"pattern": RULE}},
    },
}
# What each list's items are options of, with the options that apply.yml gives besides.
MODULES = {
    "awx_credential_types": "credential_type",
    "awx_execution_environments": "execution_environment",
    "awx_projects": "project",
    "awx_inventories": "inventory",
    "awx_inventory_sources": "inventory_source",
    "awx_notification_templates": "notification_template",
    "awx_schedules": "schedule",
}
OURS = {"survey", "survey_required", "nodes"}  # read by apply.yml and its templates


class Loader(yaml.SafeLoader):
    """YAML with Ansible's tag for texts that are not templates."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def data() -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for path in sorted(AWX.glob("*.yml")):
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
        if isinstance(content, dict):
            assert not merged.keys() & content.keys(), path
            merged |= content
    return merged


DATA = data()
# What a default that is computed comes to for pattern 1, the only one that has these questions.
DEFAULTS = {"llmd_replicas": read_pattern("pattern1")["defaults"]["replicas"]}
OPTIONS = check_inputs.options_of("llmd")


def rendered(name: str, **variables: Any) -> Any:
    """One of the folder's templates, as Ansible would render it."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(AWX / "templates"))
    known = CoreFilters().filters()
    environment.filters.update({filter_name: known[filter_name] for filter_name in ("basename", "combine", "to_json")})
    return json.loads(environment.get_template(name).render({**DATA, **variables}))


TEMPLATES = rendered("job_templates.json.j2", awx_playbooks=[f"/x/{name}" for name in PLAYBOOKS])


def survey(of: dict[str, Any]) -> list[dict[str, Any]]:
    spec: list[dict[str, Any]] = rendered("survey.json.j2", survey_of=of)
    return spec


def test_every_playbook_has_one_job_template() -> None:
    assert sorted(one["playbook"].removeprefix("playbooks/") for one in TEMPLATES) == PLAYBOOKS
    names = [one["name"] for one in TEMPLATES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("one", DATA["awx_job_templates"], ids=lambda one: str(one["name"]))
def test_a_job_template_is_named_after_its_playbook(one: dict[str, Any]) -> None:
    assert one["name"] == f"llmd_{Path(one['playbook']).stem}"


@pytest.mark.parametrize("name", sorted(DATA["awx_questions"]))
def test_a_question_is_about_a_documented_variable_with_its_default(name: str) -> None:
    question, option = DATA["awx_questions"][name], OPTIONS[name]
    assert question["type"] in SURVEY_TYPES[option.get("type", "str")]
    if question["type"] == "multiplechoice" and "choices" in option:
        assert question["choices"] == option["choices"]
    if option.get("required"):
        assert question["required"]
        assert "default" not in question
    else:
        assert question["default"] == DEFAULTS.get(name, option["default"])
    if option.get("no_log"):
        assert question["type"] == "password"


@pytest.mark.parametrize("one", [*TEMPLATES, *DATA["awx_workflows"]], ids=lambda one: str(one["name"]))
def test_no_survey_can_hand_on_an_empty_text_where_that_is_an_error(one: dict[str, Any]) -> None:
    spec = survey(one)
    assert [question["variable"] for question in spec] == one["survey"]
    answers = {question["variable"]: question.get("default", "x") for question in spec}
    assert check_inputs.inputs.problems_of(answers, (), OPTIONS, check_inputs.role_names()) == []


@pytest.mark.parametrize("one", TEMPLATES, ids=lambda one: str(one["name"]))
def test_only_pattern_1_and_scaling_ask_for_what_other_patterns_know_better(one: dict[str, Any]) -> None:
    asks = one["playbook"] in ("playbooks/pattern1.yml", "playbooks/scale.yml")
    assert asks or not DEFAULTS.keys() & set(one["survey"])


def test_what_deletes_asks_for_the_name_of_what_goes() -> None:
    teardown = next(one for one in TEMPLATES if one["playbook"] == "playbooks/teardown.yml")
    confirm = next(question for question in survey(teardown) if question["variable"] == "llmd_confirm")
    assert confirm["required"]
    assert confirm["default"] == ""  # nothing is typed for the person


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_shapes(name: str) -> None:
    assert DATA[name]
    for one in DATA[name]:
        jsonschema.validate(one, SCHEMAS[name])


def test_money_is_spent_only_after_an_approval() -> None:
    nodes = {node["identifier"]: node for node in DATA["awx_workflows"][0]["nodes"]}
    before = {
        after["identifier"]: name
        for name, node in nodes.items()
        for after in node["related"].get("success_nodes", [])
    }  # fmt: skip
    assert set(before.values()) | {node["identifier"] for node in nodes.values()} == set(nodes)
    chain, at = [], "benchmark"
    while at in before:
        at = before[at]
        chain.append(at)
    assert chain == ["verify", "pattern1", "approve", "preflight"]
    assert nodes["approve"]["unified_job_template"]["type"] == "workflow_approval"


def test_everything_that_is_named_exists() -> None:
    jobs = {one["name"] for one in TEMPLATES}
    projects = {one["name"] for one in DATA["awx_projects"]}
    for one in DATA["awx_schedules"]:
        assert one["unified_job_template"] in jobs
    for workflow in DATA["awx_workflows"]:
        identifiers = {node["identifier"] for node in workflow["nodes"]}
        for node in workflow["nodes"]:
            if node["unified_job_template"]["type"] == "job_template":
                assert node["unified_job_template"]["name"] in jobs
            for related in node["related"].values():
                assert {one["identifier"] for one in related} <= identifiers
    for source in DATA["awx_inventory_sources"]:
        assert source["source_project"] in projects
        assert (ROOT / source["source_path"]).exists()
    defaults = DATA["awx_job_template_defaults"]
    assert defaults["project"] in projects
    assert defaults["inventory"] in {one["name"] for one in DATA["awx_inventories"]}
    assert defaults["execution_environment"] in {one["name"] for one in DATA["awx_execution_environments"]}


def test_what_jobs_hand_on_has_keys_of_its_own_and_holds_every_deployment() -> None:
    """Not merged, the last deployment of a job would be the only one that is handed on."""
    published = [
        task["ansible.builtin.set_stats"]
        for path in (ROOT / "roles").glob("*/tasks/*.yml")
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []
        if "ansible.builtin.set_stats" in task
    ]
    assert len(published) >= 6
    for one in published:
        assert one["aggregate"] is True, one
        for name, value in one["data"].items():
            assert name.startswith("llmd_gke_"), name
            assert value.startswith("{{ {inventory_hostname: "), value


def test_credentials_are_injected_by_file_or_environment_and_secret_in_awx() -> None:
    for one in DATA["awx_credential_types"]:
        fields = {field["id"]: field for field in one["inputs"]["fields"]}
        assert set(one["inputs"]["required"]) <= set(fields)
        assert all(not name.startswith("ANSIBLE_") for name in one["injectors"]["env"])  # AWX refuses those
        text = json.dumps(one["injectors"])
        for name, field in fields.items():
            assert name in text
            if name != "project":
                assert field["secret"]


# --- against what awx.awx itself says ---------------------------------------------------------------------------------


def options_of_module(name: str) -> set[str]:
    spec = importlib.util.find_spec(f"ansible_collections.awx.awx.plugins.modules.{name}")
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    documentation = text.split("DOCUMENTATION = '''", 1)[1].split("'''", 1)[0]
    return set(yaml.safe_load(documentation)["options"])


needs_awx = pytest.mark.skipif(
    importlib.util.find_spec("ansible_collections.awx") is None, reason="this Ansible bundle has no awx.awx"
)


@needs_awx
@pytest.mark.parametrize("name", sorted(MODULES))
def test_awx_knows_every_option(name: str) -> None:
    for one in DATA[name]:
        assert set(one) - OURS <= options_of_module(MODULES[name])


@needs_awx
def test_awx_knows_every_option_of_job_templates_and_workflows() -> None:
    for one in TEMPLATES:
        assert set(one) - OURS <= options_of_module("job_template")
    for one in DATA["awx_workflows"]:
        assert set(one) - OURS <= options_of_module("workflow_job_template")


@needs_awx
def test_apply_gives_awx_only_options_that_it_knows() -> None:
    play = yaml.load((AWX / "apply.yml").read_text(encoding="utf-8"), Loader=Loader)[0]
    seen = 0
    for task in play["tasks"]:
        for name, options in task.items():
            if name.startswith("awx.awx."):
                seen += 1
                assert set(options) <= options_of_module(name.removeprefix("awx.awx."))
    assert seen >= 8
