"""The module's door: options as documented, codes as listed, check mode sends nothing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.arguments import ARGUMENTS
from ansible_collections.llmd.gke.plugins.module_utils.engines.arguments import SHARED
from ansible_collections.llmd.gke.plugins.module_utils.engines.arguments import spec as engine_arguments

ROOT = Path(__file__).resolve().parents[3]
MODULE = "ansible_collections.llmd.gke.plugins.modules.benchmark"


class Ended(Exception):
    """The module said its last word."""


def run(monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    said: dict[str, Any] = {}

    def end(failed: bool) -> Any:
        def method(self: Any, msg: str = "", **result: Any) -> None:
            said.update(result, failed=failed, msg=msg)
            raise Ended

        return method

    monkeypatch.setattr(AnsibleModule, "exit_json", end(False))
    monkeypatch.setattr(AnsibleModule, "fail_json", end(True))
    with patch_module_args(options), pytest.raises(Ended):
        importlib.import_module(MODULE).main()
    return said


def test_check_mode_plans_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    said = run(
        monkeypatch, base_url="http://127.0.0.1:1", model="m", requests=50, concurrency=[2, 4], warmup=5,
        artifacts_dir=str(folder), _ansible_check_mode=True,
    )  # fmt: skip
    assert (said["failed"], said["changed"]) == (False, False)
    assert said["plan"]["requests_at_most"] == 110
    assert said["plan"]["levels"] == ["2 at once", "4 at once"]
    assert "benchmark" not in said
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"base_url": "nowhere"}, "BASE_URL_INVALID"),
        ({"requests": 10**9}, "LOAD_INVALID"),
        ({"concurrency": []}, "LOAD_INVALID"),
        ({"rate": [1], "against": {"base_url": "http://127.0.0.1:2"}}, "LOAD_INVALID"),
        ({"headers": {"X": "a\r\nEvil: b"}}, "LOAD_INVALID"),
        ({"workload": {"prompt": "long"}}, "WORKLOAD_INVALID"),
        ({"workload": {"kind": "dataset"}}, "WORKLOAD_INVALID"),
        ({"workload": {"kind": "dataset", "dataset": "/nonexistent"}}, "DATASET_INVALID"),
        ({"expectations": [{"metric": "x"}]}, "EXPECTATION_INVALID"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], code: str
) -> None:
    said = run(monkeypatch, **{"base_url": "http://127.0.0.1:1", "model": "m", **options})
    assert said["failed"]
    assert said["error"]["code"] == code
    assert said["error"]["remedy"]


def same(options: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert set(options) == set(arguments)
    for name, argument in arguments.items():
        for key in ("type", "default", "choices", "elements"):
            assert options[name].get(key) == argument.get(key), (name, key)
        assert options[name].get("required", False) == argument.get("required", False)
        if "options" in argument:
            same(options[name]["suboptions"], argument["options"])


def test_the_documentation_says_what_the_code_takes() -> None:
    module = importlib.import_module(MODULE)
    same(yaml.safe_load(module.DOCUMENTATION)["options"], ARGUMENTS)
    for example in yaml.safe_load(module.EXAMPLES):
        assert set(example["llmd.gke.benchmark"]) <= set(ARGUMENTS)
    assert yaml.safe_load(module.RETURN)


def test_the_module_for_other_engines_documents_what_it_takes() -> None:
    module = importlib.import_module(MODULE + "_engine")
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    same(documented, engine_arguments())
    for name in SHARED:
        assert documented[name] == yaml.safe_load(importlib.import_module(MODULE).DOCUMENTATION)["options"][name]
    for example in yaml.safe_load(module.EXAMPLES):
        assert set(example["llmd.gke.benchmark_engine"]) - {"kubeconfig"} <= set(engine_arguments())


def test_every_code_is_listed_and_every_listed_code_exists() -> None:
    sources = [
        path for name in ("benchmark", "engines") for path in (ROOT / f"plugins/module_utils/{name}").glob("*.py")
    ]
    sources += (ROOT / "plugins/modules").glob("benchmark*.py")
    used = {code for path in sources for code in re.findall(r'code="([A-Z_]+)"', path.read_text(encoding="utf-8"))}
    table = (ROOT / "docs/errors/benchmark.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.M)) == used


def test_the_role_hands_every_variable_on() -> None:
    tasks = (ROOT / "roles/benchmark/tasks/main.yml").read_text(encoding="utf-8")
    options = set(re.findall(r"^        (\w+): ", tasks.split("llmd.gke.benchmark:")[1].split("register")[0], re.M))
    assert {"base_url", "baseline", "history"} <= options <= set(ARGUMENTS)
