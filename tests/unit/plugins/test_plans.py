"""The plan of a deployment: what a pattern makes of a list of models, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.llmd.gke.plugins.filter.deployment_plan import deployment_plan
from ansible_collections.llmd.gke.plugins.lookup.pattern import SHIPPED, read_pattern
from ansible_collections.llmd.gke.plugins.lookup.profile import read_profile
from ansible_collections.llmd.gke.plugins.plugin_utils.plans import RELEASE_LENGTH, label_of, release_name, slug_of

GEMMA, PHI = "google/gemma-2b-it", "microsoft/Phi-3-mini-4k-instruct"
GPU = {"pool": "t4", "machine_type": "n1-standard-4", "type": "nvidia-tesla-t4", "count": 1, "min": 0, "max": 3}
SETTINGS: dict[str, Any] = {
    "release": "pattern1",
    "model": GEMMA,
    "replicas": 1,
    "max_model_len": 2048,
    "gpu_memory_utilization": 0.85,
    "max_num_seqs": 64,
    "dtype": "half",
    "model_size": "10Gi",
    "gpu": GPU,
}


def plan(pattern: str, models: list[dict[str, Any]] | None = None, profile: str = "llm-d-0.4", **more: Any) -> Any:
    return deployment_plan(read_pattern(pattern), read_profile(profile), models or [], {**SETTINGS, **more})


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yml")), ids=lambda path: path.stem)
def test_every_shipped_pattern_is_whole(path: Path) -> None:
    pattern = read_pattern(path.stem)
    assert pattern["name"] == path.stem
    assert pattern["models"] in ("one", "several")
    assert pattern["router"] in ("none", "body")
    roles = Path(__file__).resolve().parents[3] / "roles"
    for proof in pattern["proofs"]:
        assert (roles / proof).is_dir()


def test_unknown_and_broken_patterns_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match=r"(?s)PATTERN_UNKNOWN.*pattern2.*What now"):
        read_pattern("pattern99")
    mine = tmp_path / "mine.yml"
    mine.write_text(yaml.safe_dump({"name": "mine"}), encoding="utf-8")
    with pytest.raises(AnsibleError, match=r"PATTERN_INVALID.*charts"):
        read_pattern(str(mine))


def test_one_model_keeps_the_names_it_always_had() -> None:
    made = plan("pattern1")
    assert [(r["name"], r["needs"]) for r in made["releases"]] == [
        ("infra-pattern1", []),
        ("gaie-pattern1", ["infra-pattern1"]),
        ("ms-pattern1", ["infra-pattern1"]),
    ]
    assert made["rules"] == [{"names": [GEMMA], "backends": [{"pool": "gaie-pattern1", "weight": 1}]}]
    assert made["gpu_pools"][0]["node_count"] == 1
    assert made["gpu_pools"][0]["autoscaling"] == {"min": 0, "max": 3}


def test_the_first_model_keeps_its_names_when_others_come_and_go() -> None:
    two = plan("pattern2", [{"name": GEMMA}, {"name": PHI}])
    three = plan("pattern2", [{"name": GEMMA}, {"name": PHI}, {"name": "a/Third"}])
    assert [s["pool"] for s in two["servers"]] == ["gaie-pattern1", "gaie-pattern1-phi-3-mini-4k-instruct"]
    assert two["servers"][0] == plan("pattern1")["servers"][0] == three["servers"][0]
    assert two["servers"][1] == three["servers"][1]
    assert "bbr-pattern1" in [r["name"] for r in two["releases"]]
    assert [rule["names"] for rule in two["rules"]] == [[GEMMA], [PHI]]


def test_nodes_are_for_the_sum_of_all_models() -> None:
    models = [{"name": GEMMA, "replicas": 2}, {"name": PHI, "replicas": 2}]
    pool = plan("pattern2", models)["gpu_pools"][0]
    assert (pool["node_count"], pool["autoscaling"]["max"]) == (4, 4)
    shared = plan("pattern2", [{**m, "gpus": 1} for m in models], gpu={**GPU, "count": 4})
    assert shared["gpu_pools"][0]["node_count"] == 1
    asked = plan("pattern2", models, gpu={**GPU, "nodes": 1})["gpu_pools"][0]
    assert (asked["node_count"], asked["autoscaling"]["max"]) == (1, 4)


def test_a_model_may_have_a_pool_of_its_own() -> None:
    l4 = {"pool": "l4", "machine_type": "g2-standard-4", "type": "nvidia-l4"}
    made = plan("pattern2", [{"name": GEMMA}, {"name": PHI, "gpu": l4, "replicas": 2}])
    assert [(p["name"], p["node_count"], p["autoscaling"]["max"]) for p in made["gpu_pools"]] == [
        ("t4", 1, 3),
        ("l4", 2, 2),
    ]
    assert [s["own_pool"] for s in made["servers"]] == [False, True]


def test_adapters_are_names_and_a_canary_is_a_second_pool() -> None:
    entry = {
        "name": GEMMA,
        "adapters": [{"name": "sql", "path": "org/sql-lora"}],
        "canary": {"model": "google/gemma-1.1-2b-it", "weight": 10},
    }
    made = plan("pattern1", [entry])
    pools = [{"pool": "gaie-pattern1", "weight": 90}, {"pool": "gaie-pattern1-gemma-2b-it-canary", "weight": 10}]
    assert made["rules"] == [{"names": [GEMMA, "sql"], "backends": pools}]
    canary = made["servers"][1]
    assert (canary["name"], canary["model"], canary["label"]) == (
        GEMMA,
        "google/gemma-1.1-2b-it",
        "gemma-2b-it-canary",
    )


def test_names_fit_what_kubernetes_and_the_charts_take() -> None:
    assert label_of("Some-Org/Odd_Model.v2-") == "odd_model.v2"
    assert slug_of("Some-Org/Odd_Model.v2-") == "odd-model-v2"
    long = "a-model-with-a-name-that-is-much-too-long-for-a-release"
    one, other = release_name("gaie", "pattern1", long), release_name("gaie", "pattern1", long + "-2")
    assert len(one) <= RELEASE_LENGTH
    assert one != other
    assert one.startswith("gaie-pattern1-")


@pytest.mark.parametrize(
    ("pattern", "models", "code"),
    [
        ("pattern2", [{"name": GEMMA}, {"name": GEMMA}], "MODELS_DUPLICATE"),
        ("pattern2", [{"name": "a/gemma"}, {"name": "b/gemma"}], "MODELS_DUPLICATE"),
        ("pattern2", [{"name": GEMMA, "adapters": [{"name": PHI}]}, {"name": PHI}], "MODELS_DUPLICATE"),
        ("pattern2", [{"name": "a/b; $(c)"}], "MODELS_INVALID"),
        ("pattern2", [{"name": GEMMA, "replcias": 2}], "MODELS_INVALID"),
        ("pattern1", [{"name": PHI}, {"name": "a/b"}], "MODELS_TOO_MANY"),
        ("pattern2", [{"name": GEMMA, "gpus": 2}], "GPUS_EXCEED_NODE"),
    ],
)
def test_what_cannot_be_is_named(pattern: str, models: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(AnsibleError, match=rf"(?s){code}.*What now"):
        plan(pattern, models)


def test_a_profile_without_the_charts_is_named() -> None:
    profile = {**read_profile("llm-d-0.4")}
    profile["charts"] = {kind: chart for kind, chart in profile["charts"].items() if kind != "bbr"}
    with pytest.raises(AnsibleError, match=r"(?s)PATTERN_NOT_IN_PROFILE.*bbr.*What now"):
        deployment_plan(read_pattern("pattern2"), profile, [{"name": GEMMA}], SETTINGS)


def test_a_group_takes_its_nodes_and_prefill_its_servers() -> None:
    group = plan("pattern4", multinode={"size": 4}, replicas=2)
    assert (group["servers"][0]["pods"], group["gpu_pools"][0]["node_count"]) == (8, 8)
    expected = {"size": 4, "expert_parallel": True, "rpc_port": 5555, "topology": ""}
    assert group["servers"][0]["group"] == expected
    apart = plan("pattern5", disaggregation={"prefill": 3})
    assert (apart["servers"][0]["pods"], apart["gpu_pools"][0]["node_count"]) == (4, 4)
    assert apart["servers"][0]["apart"]["transport"] == "tcp"


@pytest.mark.parametrize(
    ("pattern", "more", "code"),
    [
        ("pattern4", {"multinode": {"size": 1}}, "GROUP_INVALID"),
        ("pattern5", {"disaggregation": {"prefill": 0}}, "DISAGGREGATION_INVALID"),
        ("pattern5", {"disaggregation": {"transport": "pigeon"}}, "DISAGGREGATION_INVALID"),
    ],
)
def test_layouts_that_cannot_be_are_named(pattern: str, more: dict[str, Any], code: str) -> None:
    with pytest.raises(AnsibleError, match=rf"(?s){code}.*What now"):
        plan(pattern, **more)


def test_adapters_reach_the_model_server() -> None:
    server = plan("pattern1", [{"name": GEMMA, "adapters": [{"name": "sql", "path": "org/sql"}]}])["servers"][0]
    assert server["args"] == ["--enable-lora", "--lora-modules", "sql=org/sql"]
    with pytest.raises(AnsibleError, match="MODELS_INVALID"):
        plan("pattern1", [{"name": GEMMA, "adapters": [{"name": "sql"}]}])


def test_precise_prefixes_want_a_version_that_knows_them() -> None:
    assert plan("pattern3", profile="llm-d-0.6", precise=True)["precise"]
    assert not plan("pattern3")["precise"]
    for pattern, profile in (("pattern3", "llm-d-0.4"), ("pattern5", "llm-d-0.6")):
        with pytest.raises(AnsibleError, match="PATTERN_NOT_IN_PROFILE"):
            plan(pattern, profile=profile, precise=True)


FOLLOWS = {"max": 4}


def test_a_number_that_follows_the_load_has_room_for_its_most() -> None:
    made = plan("pattern3", replicas=3, autoscaling=FOLLOWS)
    (server,) = made["servers"]
    assert server["autoscaling"] == {
        "min": 1, "max": 4, "metric": "queue", "target": 5.0, "by": "hpa", "prometheus": "", "stabilization": 300,
    }  # fmt: skip
    assert (server["replicas"], server["pods"]) == (3, 3)
    (pool,) = made["gpu_pools"]
    assert pool["node_count"] == 3  # paid for from the start: what runs at the start
    assert pool["autoscaling"]["max"] == 4
    assert plan("pattern1", replicas=9, autoscaling=FOLLOWS)["servers"][0]["replicas"] == 4


def test_each_model_may_follow_its_own_load() -> None:
    models = [{"name": GEMMA, "autoscaling": {"max": 2, "metric": "kv_cache"}}, {"name": PHI}]
    first, second = plan("pattern2", models)["servers"]
    assert (first["autoscaling"]["target"], second["autoscaling"]) == (0.8, {})
    canary = [{"name": GEMMA, "canary": {"model": PHI, "weight": 5}}]
    servers = plan("pattern1", canary, autoscaling=FOLLOWS)["servers"]
    assert [bool(server["autoscaling"]) for server in servers] == [True, False]


@pytest.mark.parametrize(
    "wanted",
    [
        {"min": 0, "max": 2},
        {"min": 3, "max": 2},
        {"min": 1},
        {"max": 2, "metric": "running"},
        {"max": 2, "metric": "cpu"},
        {"max": 2, "by": "vpa"},
        {"max": 2, "tagret": 4},
    ],
)
def test_what_no_number_can_follow_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(AnsibleError, match=r"(?s)AUTOSCALING_INVALID.*What now"):
        plan("pattern3", autoscaling=wanted)


@pytest.mark.parametrize("pattern", ["pattern4", "pattern5"])
def test_servers_that_work_together_are_a_fixed_number(pattern: str) -> None:
    with pytest.raises(AnsibleError, match="AUTOSCALING_INVALID"):
        plan(pattern, autoscaling=FOLLOWS)
