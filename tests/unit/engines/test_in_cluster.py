"""An engine as a Job: what is made, how its end is seen, and that nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.engines import in_cluster
from ansible_collections.llmd.gke.plugins.module_utils.engines.in_cluster import Room
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import FOLDER, OUT, Recipe
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient

LABELS = {"app.kubernetes.io/managed-by": "llmd-gke", "app.kubernetes.io/component": "benchmark-engine"}
LIMITS = {"limits": {"cpu": "2", "memory": "4Gi"}}
ROOM = Room("llm-d", "engine", "image:1", LABELS, LIMITS, timeout=100.0)
RECIPE = Recipe(("tool", f"{FOLDER}/in.json"), {"in.json": f'{{"out": "{OUT}/x"}}'}, {"result": f"{OUT}/r.json"})
JOB = "/apis/batch/v1/namespaces/llm-d/jobs/engine"
CONFIG = "/api/v1/namespaces/llm-d/configmaps/engine"
SECRET = "/api/v1/namespaces/llm-d/secrets/engine"
POD = "/api/v1/namespaces/llm-d/pods/engine-abc"


def log(tmp_path: Path, recipe: Recipe = RECIPE, code: int = 0) -> str:
    """What the runner really prints in a container, with the image's folders moved to a temporary one."""
    made = in_cluster.manifests(ROOM, recipe)["config_map"]["data"]
    program = tmp_path / "tool.py"
    program.write_text(f"import json\njson.dump({{'a': 1, 'texts': ['x'] * 9000}}, open('r.json', 'w'))\nexit({code})")
    order = {**json.loads(made["order.json"]), "command": [sys.executable, str(program)]}
    order["outputs"] = {label: path.replace("/tmp", str(tmp_path)) for label, path in order["outputs"].items()}
    (tmp_path / "order.json").write_text(json.dumps(order))
    runner = made["run.py"].replace(in_cluster.MOUNT, str(tmp_path))
    done = subprocess.run([sys.executable, "-c", runner], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def cluster(fakes: Any) -> Any:
    """A cluster whose Job ends five seconds after it was released, with ``texts`` as its pod's log."""
    api, clock = fakes.FakeApi(), fakes.FakeClock()
    api.end = "Complete"

    def ended() -> None:
        condition = fakes.condition(api.end, "True", getattr(api, "reason", ""))
        api.objects[JOB]["status"] = {"conditions": [condition]}

    def written(where: str, content_type: str, document: Any) -> None:
        if where == JOB and document["spec"]["suspend"] is False:
            assert CONFIG in api.objects or SECRET in api.objects  # what the pod mounts is there before it starts
            pod = {"metadata": {"labels": {"job-name": "engine"}}, "status": api.pod}
            api.put(POD, pod)
            if api.end:
                clock.at(5, ended)

    api.pod = {"phase": "Running"}
    api.on_write = written
    return api, clock


def run(cluster: Any, recipe: Recipe = RECIPE) -> dict[str, str]:
    api, clock = cluster
    return in_cluster.run(KubeClient(api), ROOM, recipe, clock=clock, progress=lambda text: None)


def left(api: Any) -> set[str]:
    return set(api.objects) - {POD}  # the pod goes with its Job


def test_outputs_come_through_the_log_and_nothing_is_left(cluster: Any, tmp_path: Path) -> None:
    api, _unused = cluster
    recipe = Recipe(RECIPE.command, RECIPE.files, RECIPE.outputs, drop=("texts",))
    api.texts[POD + "/log"] = "said by the tool\n" + log(tmp_path, recipe)
    assert json.loads(run(cluster, recipe)["result"]) == {"a": 1}
    assert left(api) == set()


def test_what_is_made_is_bounded_owned_and_ours() -> None:
    made = in_cluster.manifests(ROOM, RECIPE)
    spec = made["job"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"] == LIMITS
    assert "nvidia.com/gpu" not in json.dumps(made)
    assert spec["activeDeadlineSeconds"] == 100
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["template"]["spec"]["automountServiceAccountToken"] is False
    assert made["job"]["metadata"]["labels"] == LABELS
    assert made["config_map"]["data"]["in.json"] == '{"out": "/tmp/x"}'


def test_a_secret_is_in_no_config_map(cluster: Any, tmp_path: Path) -> None:
    api, _unused = cluster
    api.texts[POD + "/log"] = log(tmp_path)
    secret = Recipe(("tool",), {"in.json": "sk-1"}, {"result": f"{OUT}/r.json"}, secrets={"OPENAI_API_KEY": "sk-1"})
    run(cluster, secret)
    written = {path.split("?")[0]: body for method, path, body in api.writes() if method == "patch"}
    assert not any("configmaps" in path for path in written)
    assert "sk-1" not in json.dumps(written[JOB])
    assert written[SECRET]["metadata"]["ownerReferences"][0]["kind"] == "Job"
    assert left(api) == set()


@pytest.mark.parametrize(
    ("reason", "code"), [("BackoffLimitExceeded", "ENGINE_FAILED"), ("DeadlineExceeded", "ENGINE_TIMEOUT")]
)
def test_a_job_that_fails_tells_its_last_words(cluster: Any, tmp_path: Path, reason: str, code: str) -> None:
    api, _unused = cluster
    api.end, api.reason = "Failed", reason
    api.texts[POD + "/log"] = "ValueError: no such model\n" + log(tmp_path)
    with pytest.raises(LlmdError) as caught:
        run(cluster)
    assert (caught.value.code, caught.value.why) == (code, "ValueError: no such model")
    assert left(api) == set()


def test_an_image_that_cannot_be_had_ends_the_wait_early(cluster: Any) -> None:
    api, clock = cluster
    api.end = ""
    waiting = {"image": "image:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}}
    api.pod = {"phase": "Pending", "containerStatuses": [waiting]}
    start = clock.now()
    with pytest.raises(LlmdError) as caught:
        run(cluster)
    assert caught.value.code == "IMAGE_PULL_FAILED"
    assert clock.now() - start < ROOM.timeout
    assert left(api) == set()


def test_what_is_not_ours_is_left_alone(cluster: Any) -> None:
    api, _unused = cluster
    api.put(CONFIG, {"metadata": {"labels": {"app": "theirs"}}, "data": {"x": "y"}})
    with pytest.raises(LlmdError) as caught:
        run(cluster)
    assert caught.value.code == "ENGINE_UNFIT"
    assert api.objects[CONFIG]["data"] == {"x": "y"}
    assert left(api) == {CONFIG}


def test_too_much_for_a_config_map_is_refused() -> None:
    large = Recipe(("tool",), {"prompts": "x" * 1_000_000}, {})
    with pytest.raises(LlmdError) as caught:
        in_cluster.manifests(ROOM, large)
    assert caught.value.code == "ENGINE_UNFIT"


def test_a_log_that_was_cut_holds_no_result() -> None:
    assert in_cluster.results("LLMD-RESULT result H4sIAAAA\nother") == {}
