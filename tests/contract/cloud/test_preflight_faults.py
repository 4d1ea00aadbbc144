"""Many things wrong at once: one preflight finds them all, quickly, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.hub.server import serve

Module = Callable[..., dict[str, Any]]
REPOSITORY = Path(__file__).resolve().parents[3]
GPUS = yaml.safe_load((REPOSITORY / "plugins/plugin_utils/gpus.yml").read_text(encoding="utf-8"))
T4 = {"type": "nvidia-tesla-t4", "count": 1}
GOOD: dict[str, Any] = {
    "region": "us-central1",
    "zone": "us-central1-a",
    "subnetwork": "default",
    "services": ["compute", "container", "networkservices"],
    "node_pools": [
        {"name": "cpu", "machine_type": "n1-standard-4", "node_count": 2},
        {"name": "gpu", "machine_type": "n1-standard-4", "node_count": 1, "accelerator": T4},
    ],
    "release_channel": "REGULAR",
    "minimum_version": "1.32.3",
    "gateway_class": "gke-l7-regional-external-managed",
    "proxy_subnet_range": "192.168.0.0/23",
    "model": "google/gemma-2b-it",
    "hf_token": "hf_sandbox",
    "gpus": GPUS,
    "serving": {
        "dtype": "half",
        "gpu_memory_utilization": 0.85,
        "max_num_seqs": 64,
        "max_model_len": 2048,
        "volume": "10Gi",
    },
    "cost": {"usd": 1.09, "complete": True, "as_of": "2026-11", "region": "us-central1", "lines": []},
    "require_helm": False,
}
FAULTS: tuple[tuple[list[str], str, str], ...] = (  # words, code, name of the finding
    (["permission-missing", "container.clusterRoles.create"], "PERMISSION_MISSING", "container.clusterRoles.create"),
    (["permission-missing", "compute.subnetworks.create"], "PERMISSION_MISSING", "compute.subnetworks.create"),
    (["permission-missing", "iam.serviceAccounts.actAs"], "PERMISSION_MISSING", "iam.serviceAccounts.actAs"),
    (["billing-disabled"], "BILLING_DISABLED", "billing"),
    (["not-offered", "n1-standard-4", "us-central1-a"], "MACHINE_TYPE_UNAVAILABLE", "n1-standard-4"),
    (["not-offered", "nvidia-tesla-t4", "us-central1-a"], "ACCELERATOR_UNAVAILABLE", "nvidia-tesla-t4"),
    (["quota", "GPUS_ALL_REGIONS", "0"], "QUOTA_EXCEEDED", "GPUS_ALL_REGIONS"),
    (["quota", "NVIDIA_T4_GPUS", "0", "us-central1"], "QUOTA_EXCEEDED", "NVIDIA_T4_GPUS"),
    (["quota", "CPUS", "4", "us-central1"], "QUOTA_EXCEEDED", "quota CPUS"),
    (["quota", "SSD_TOTAL_GB", "100", "us-central1"], "QUOTA_EXCEEDED", "SSD_TOTAL_GB"),
    (["quota", "IN_USE_ADDRESSES", "3", "us-central1"], "QUOTA_EXCEEDED", "IN_USE_ADDRESSES"),
    (["gke-version", "1.31.5-gke.1000000"], "GKE_VERSION_OLD", "GKE version"),
)
L4_ON_N1 = {"name": "l4", "machine_type": "n1-standard-8", "node_count": 1, "accelerator": {"type": "nvidia-l4"}}
OPTIONS: tuple[tuple[dict[str, Any], str, str], ...] = (  # options, code, name of the finding
    ({"proxy_subnet_range": "10.129.0.0/23"}, "CIDR_RESERVED_RANGE", "proxy subnet"),
    ({"subnetwork": "nope"}, "SUBNET_NOT_FOUND", "subnet"),
    ({"gateway_class": "gke-l7-global-external-managed"}, "GATEWAY_CLASS_UNFIT", "gateway class"),
    ({"hf_token": "hf_not_accepted"}, "HF_MODEL_GATED", "hugging face model"),
    ({"node_pools": [*GOOD["node_pools"], {**L4_ON_N1, "accelerator": {"type": "nvidia-l4", "count": 1}}]},
     "ACCELERATOR_MACHINE", "nvidia-l4 on n1-standard-8"),
)  # fmt: skip


@pytest.fixture
def hub() -> Iterator[str]:
    found = serve("127.0.0.1", 0)
    yield f"http://127.0.0.1:{found.server_port}"
    found.stop()


@pytest.fixture
def ready(emulated: Any, module: Module, hub: str) -> Module:
    services = ("compute", "container", "networkservices")
    emulated.control("services", {"enable": [f"{name}.googleapis.com" for name in services]})

    def run(**options: Any) -> dict[str, Any]:
        return module("gcp_preflight", **{**GOOD, "hf_endpoint": hub, **options})

    return run


def found(result: dict[str, Any], code: str, name: str) -> bool:
    return any(check["code"] == code and name in check["name"] for check in result["checks"] if not check["ok"])


def test_all_is_well_and_told_in_a_table(emulated: Any, ready: Module) -> None:
    before = emulated.control("snapshot")
    result = ready()
    assert result["summary"] == {"OK": len(result["checks"]), "WARN": 0, "FAIL": 0, "SKIP": 0}, result["msg"]
    assert len(result["msg"].splitlines()) == len(result["checks"])
    assert emulated.control("snapshot") == before


def test_everything_that_was_planted_is_found_in_one_pass(
    emulated: Any, ready: Module, capfd: pytest.CaptureFixture[str]
) -> None:
    for words, _, _ in FAULTS:
        emulated.plant(words=words)
    options: dict[str, Any] = {}
    for given, _, _ in OPTIONS:
        options |= given
    begun = time.monotonic()
    result = ready(**options)
    seconds = time.monotonic() - begun
    wanted = [(code, name) for _, code, name in (*FAULTS, *OPTIONS)]
    missed = [pair for pair in wanted if not found(result, *pair)]
    with capfd.disabled():
        print(f"\npreflight: {len(wanted)} planted, {len(wanted) - len(missed)} found in one pass, {seconds:.1f} s")
    assert missed == [], result["msg"]
    assert result["error"]["code"] == "PREFLIGHT_FAILED"
    assert all(check["remedy"] for check in result["checks"] if not check["ok"])


def test_what_was_skipped_stops_nothing_but_is_shown(emulated: Any, ready: Module) -> None:
    emulated.plant(words=["quota", "CPUS", "4", "us-central1"])
    emulated.plant(words=["billing-disabled"])
    assert ready(skip=["QUOTA_EXCEEDED"])["error"]["code"] == "BILLING_DISABLED"
    result = ready(skip=["QUOTA_EXCEEDED", "BILLING_DISABLED"])
    assert result["passed"] is True
    assert result["summary"]["SKIP"] == 2
    assert "SKIP" in result["msg"]


@pytest.mark.parametrize(
    ("serving", "code"),
    [
        ({"gpu_memory_utilization": 0.9, "max_num_seqs": 256, "max_model_len": 4096}, "MODEL_DOES_NOT_FIT"),
        ({"dtype": "bfloat16"}, "DTYPE_UNSUPPORTED"),
        ({"max_model_len": 9000}, "MODEL_LENGTH"),
        ({"volume": "4Gi"}, "MODEL_VOLUME_TOO_SMALL"),
    ],
)
def test_the_model_on_the_gpu(emulated: Any, ready: Module, serving: dict[str, Any], code: str) -> None:
    result = ready(serving={**GOOD["serving"], **serving})
    assert result["error"]["code"] == code, result["msg"]
    assert result["error"]["remedy"]


GPU_POOL = GOOD["node_pools"][1]
L4 = {"type": "nvidia-l4", "machine_type": "g2-standard-4"}


def with_fallbacks(*fallbacks: dict[str, Any]) -> list[dict[str, Any]]:
    return [GOOD["node_pools"][0], {**GPU_POOL, "fallbacks": list(fallbacks)}]


def named(result: dict[str, Any], name: str) -> dict[str, Any]:
    check: dict[str, Any] = next(check for check in result["checks"] if check["name"] == name)
    return check


def test_each_fallback_is_judged_as_if_it_were_taken(emulated: Any, ready: Module) -> None:
    """One finding a fallback, with the first thing that is wrong; the run goes on, as the first choice is good."""
    emulated.plant(words=["not-offered", "nvidia-tesla-t4", "us-central1-b"])
    emulated.plant(words=["quota", "NVIDIA_V100_GPUS", "0", "us-central1"])
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"zone": "us-central1-c"}, ""),
        ({"zone": "us-central1-b"}, "ACCELERATOR_UNAVAILABLE"),
        ({"zone": "us-central1-x"}, "ZONE_NOT_FOUND"),
        (L4, ""),
        ({"type": "nvidia-l4"}, "ACCELERATOR_MACHINE"),
        ({**L4, "machine_type": "g2-standard-5"}, "MACHINE_TYPE_UNAVAILABLE"),
        ({"type": "nvidia-tesla-v100"}, "QUOTA_EXCEEDED"),
        ({"type": "nvidia-h100-80gb", "machine_type": "a3-highgpu-8g", "count": 9}, "ACCELERATOR_COUNT"),
        ({"spot": True}, ""),
    )
    result = ready(node_pools=with_fallbacks(*(fallback for fallback, _ in cases)))
    assert result["passed"] is True, result["msg"]
    checks = [named(result, f"fallback {number} of gpu") for number in range(1, len(cases) + 1)]
    assert [check["code"] for check in checks] == [code for _, code in cases], result["msg"]
    assert [check["severity"] for check in checks] == ["warning" if code else "ok" for _, code in cases]
    assert all(check["remedy"] for check in checks if check["code"])
    assert result["api_calls"]["compute.regions.get"] == 1, "what is known is not asked again"


def test_a_fallback_in_another_region_stops_the_run_before_anything_is_made(emulated: Any, ready: Module) -> None:
    result = ready(node_pools=with_fallbacks({"zone": "europe-west4-a"}))
    assert result["error"]["code"] == "NODE_POOL_INVALID", result["msg"]


def test_short_quota_is_a_warning_where_a_fallback_has_room(emulated: Any, ready: Module) -> None:
    emulated.plant(words=["quota", "NVIDIA_T4_GPUS", "0", "us-central1"])
    assert ready()["error"]["code"] == "QUOTA_EXCEEDED"
    result = ready(node_pools=with_fallbacks({"zone": "us-central1-b"}, L4))
    assert result["passed"] is True, result["msg"]
    assert "fallback 2 of gpu (g2-standard-4 with 1 x nvidia-l4" in named(result, "quota NVIDIA_T4_GPUS")["detail"]
    emulated.plant(words=["quota", "NVIDIA_L4_GPUS", "0", "us-central1"])
    assert ready(node_pools=with_fallbacks({"zone": "us-central1-b"}, L4))["error"]["code"] == "QUOTA_EXCEEDED"


def test_the_model_on_the_gpu_of_a_fallback(emulated: Any, ready: Module) -> None:
    """bfloat16 is good on the L4 that is wanted, not on the T4 that is allowed in its place."""
    l4 = {**GPU_POOL, "accelerator": {"type": "nvidia-l4", "count": 1}, "machine_type": "g2-standard-4"}
    pools = [{**l4, "fallbacks": [{"type": "nvidia-tesla-t4", "machine_type": "n1-standard-4"}]}]
    result = ready(node_pools=pools, serving={**GOOD["serving"], "dtype": "bfloat16"})
    assert result["passed"] is True, result["msg"]
    assert named(result, "model on the GPU")["severity"] == "ok"
    check = named(result, "model on the GPU of fallback nvidia-tesla-t4")
    assert (check["severity"], check["code"]) == ("warning", "DTYPE_UNSUPPORTED")


@pytest.mark.parametrize(
    ("options", "faults", "name"),
    [
        ({"static_addresses": 1}, ["quota", "STATIC_ADDRESSES", "0", "us-central1"], "quota STATIC_ADDRESSES"),
        ({"node_pools": [{**GPU_POOL, "disk_type": "pd-standard", "disk_size_gb": 300}]},
         ["quota", "DISKS_TOTAL_GB", "200", "us-central1"], "quota DISKS_TOTAL_GB"),
        ({"node_pools": [{**GPU_POOL, "locations": ["us-central1-a", "us-central1-b"]}]},
         ["quota", "NVIDIA_T4_GPUS", "1", "us-central1"], "quota NVIDIA_T4_GPUS"),
    ],
)  # fmt: skip
def test_more_quotas(emulated: Any, ready: Module, options: dict[str, Any], faults: list[str], name: str) -> None:
    assert named(ready(**options), name)["severity"] == "ok"
    emulated.plant(words=faults)
    assert named(ready(**options), name)["code"] == "QUOTA_EXCEEDED"


def test_private_nodes_need_no_addresses(emulated: Any, ready: Module) -> None:
    emulated.plant(words=["quota", "IN_USE_ADDRESSES", "1", "us-central1"])
    assert ready()["error"]["code"] == "QUOTA_EXCEEDED"
    assert ready(private_nodes=True)["passed"] is True


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["outage", "us-central1"], "ZONE_DOWN"),
        (["project-inactive"], "PROJECT_NOT_ACTIVE"),
        (["gpu-quota", "0"], "PREFLIGHT_FAILED"),
    ],
)
def test_other_named_faults(emulated: Any, ready: Module, words: list[str], code: str) -> None:
    emulated.plant(words=words)
    result = ready()
    assert result["error"]["code"] == code or found(result, code, ""), result["msg"]
