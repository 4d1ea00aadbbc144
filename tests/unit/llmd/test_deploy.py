"""The deployer over a helm that only pretends (but keeps releases like the real one) and an API server in memory."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.deploy import Deployer, Settings
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import Completed, Helm, system_runner
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helmfile import Helmfile, affected
from ansible_collections.llmd.gke.plugins.module_utils.llmd.kubeconfig import helm_access
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Bounds, Release

DEPLOYMENTS = "/apis/apps/v1/namespaces/llm-d/deployments/"


class FakeHelm:
    """helm as a runner: releases in memory, charts that render one Deployment from their values."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.releases: dict[str, dict[str, Any]] = {}
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.failures: dict[str, str] = {}
        self.ready = True

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Completed:
        arguments = list(argv[1:])
        self.calls.append(arguments)
        self.environments.append(dict(environment))
        verb = arguments[0]
        name = arguments[1] if len(arguments) > 1 else ""
        if f"{verb} {name}" in self.failures and "--dry-run=server" not in arguments:
            return Completed(1, "", self.failures[f"{verb} {name}"])
        return Completed(0, getattr(self, f"do_{verb}")(name, arguments))

    def done(self) -> list[str]:
        """What was really done."""
        writes = ("upgrade", "rollback", "uninstall")
        return [f"{c[0]} {c[1]}" for c in self.calls if c[0] in writes and "--dry-run=server" not in c]

    @staticmethod
    def _values(arguments: list[str]) -> dict[str, Any]:
        text = Path(arguments[arguments.index("--values") + 1]).read_text()
        return yaml.safe_load(text) or {}

    def _manifest(self, name: str, values: dict[str, Any]) -> str:
        spec = {"replicas": values.get("replicas", 1), "selector": {"matchLabels": {"app": values.get("label", name)}}}
        return yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})

    def do_list(self, _name: str, arguments: list[str]) -> str:
        pattern = arguments[arguments.index("--filter") + 1]
        names = pattern.strip("^$()").replace("\\", "").split("|")
        return json.dumps([{k: v for k, v in r.items() if k != "more"} for n, r in self.releases.items() if n in names])

    def do_status(self, name: str, _arguments: list[str]) -> str:
        return json.dumps(self.releases[name]["more"])

    def do_history(self, name: str, _arguments: list[str]) -> str:
        return json.dumps(self.releases[name].get("history") or [])

    def do_template(self, name: str, arguments: list[str]) -> str:
        return self._manifest(name, self._values(arguments))

    def do_upgrade(self, name: str, arguments: list[str]) -> str:
        values = self._values(arguments)
        manifest = self._manifest(name, values)
        if "--dry-run=server" in arguments:
            return json.dumps({"manifest": manifest})
        revision = int(self.releases.get(name, {}).get("revision", 0)) + 1
        package = Path(arguments[2]).name.removesuffix(".tgz")
        self.releases[name] = {
            "name": name, "namespace": "llm-d", "status": "deployed", "revision": str(revision), "chart": package,
            "updated": "2026-11-23 10:00:00 +0000 UTC", "more": {"config": values, "manifest": manifest},
        }  # fmt: skip
        document = yaml.safe_load(manifest)
        ready = values.get("replicas", 1) if self.ready else 0
        document["status"] = {"updatedReplicas": ready, "availableReplicas": ready}
        self.api.put(DEPLOYMENTS + name, document)
        return json.dumps({"version": revision})

    def do_rollback(self, name: str, _arguments: list[str]) -> str:
        self.releases[name]["status"] = "deployed"
        return ""

    def do_uninstall(self, name: str, _arguments: list[str]) -> str:
        self.releases.pop(name, None)
        self.api.objects.pop(DEPLOYMENTS + name, None)
        return ""


@pytest.fixture
def helm(api: Any) -> FakeHelm:
    return FakeHelm(api)


@pytest.fixture
def charts(tmp_path: Path) -> Path:
    folder = tmp_path / "charts"
    folder.mkdir()
    for name in ("infra-v1.3.6", "pool-v1.2.0", "model-v0.3.17"):
        (folder / f"{name}.tgz").write_bytes(name.encode())
    return folder


@pytest.fixture
def run(helm: FakeHelm, client: Any, clock: Any, tmp_path: Path, charts: Path) -> Any:
    def run(
        releases: list[Release], state: str = "present", use_client: bool = True, warn: Any = None, **options: Any
    ) -> Any:
        scratch = tmp_path / f"scratch{len(helm.calls)}"
        scratch.mkdir()
        settings = Settings(scratch, tmp_path / "helmfile", chart_source=str(charts), **options)
        wrapped = Helm("helm", helm, {"KUBECONFIG": "/k"})
        deployer = Deployer(wrapped, client if use_client else None, settings, clock=clock)
        deployer.warn = warn or deployer.warn
        return deployer.present(releases) if state == "present" else deployer.absent(releases)

    return run


def releases(replicas: int = 1) -> list[Release]:
    return [
        Release("infra", "infra", "v1.3.6", "llm-d", {"gateway": {"x": 1}}, description="The Gateway."),
        Release("gaie", "pool", "1.2.0", "llm-d", needs=("infra",)),
        Release("ms", "model", "v0.3.17", "llm-d", {"replicas": replicas}, needs=("infra", "gaie")),
    ]


def actions(report: Any) -> dict[str, str]:
    return {name: entry["action"] for name, entry in report.releases.items()}


def test_first_run_installs_in_order_and_second_does_nothing(run: Any, helm: FakeHelm) -> None:
    report = run(releases())
    assert report.changed
    assert helm.done() == ["upgrade infra", "upgrade gaie", "upgrade ms"]
    assert all(entry["status"] == "deployed" for entry in report.releases.values())
    again = run(releases())
    assert not again.changed
    assert actions(again) == {"infra": "none", "gaie": "none", "ms": "none"}
    assert len(helm.done()) == 3


def test_only_what_differs_is_upgraded(run: Any, helm: FakeHelm) -> None:
    run(releases())
    report = run(releases(replicas=2))
    assert actions(report) == {"infra": "none", "gaie": "none", "ms": "upgrade"}
    assert helm.done()[3:] == ["upgrade ms"]
    assert report.diff[0]["before_header"] == "release ms (installed)"


def test_check_mode_predicts_and_touches_nothing(run: Any, helm: FakeHelm, tmp_path: Path) -> None:
    report = run(releases(), check_mode=True)
    assert report.changed
    assert set(actions(report).values()) == {"install"}
    assert helm.done() == []
    assert not (tmp_path / "helmfile").exists()
    assert str(tmp_path / "helmfile/helmfile.yaml") in report.files
    run(releases())
    assert not run(releases(), check_mode=True).changed


def test_check_mode_without_a_cluster_predicts_an_installation(run: Any, helm: FakeHelm) -> None:
    helm.do_list = lambda *_unused: (_unused for _unused in ()).throw(AssertionError)  # type: ignore[method-assign,assignment,return-value]
    helm.failures["list --namespace"] = "Error: Kubernetes cluster unreachable: connection refused"
    report = run(releases(), use_client=False, check_mode=True)
    assert set(actions(report).values()) == {"install"}
    with pytest.raises(LlmdError) as caught:
        run(releases())
    assert caught.value.code == "CLUSTER_UNREACHABLE"


def test_an_object_that_somebody_deleted_comes_back(run: Any, helm: FakeHelm, api: Any) -> None:
    run(releases())
    del api.objects[DEPLOYMENTS + "gaie"]
    report = run(releases())
    assert report.releases["gaie"]["reasons"] == ["Deployment llm-d/gaie is gone"]
    assert DEPLOYMENTS + "gaie" in api.objects


@pytest.mark.parametrize(
    ("status", "history", "wanted"),
    [
        ("failed", [], ["uninstall gaie", "upgrade gaie"]),
        ("failed", [{"revision": 1, "status": "superseded"}], ["upgrade gaie"]),
        ("pending-install", [], ["uninstall gaie", "upgrade gaie"]),
        ("pending-upgrade", [{"revision": 1, "status": "deployed"}], ["rollback gaie", "upgrade gaie"]),
    ],
)
def test_broken_releases_are_healed(
    run: Any, helm: FakeHelm, status: str, history: list[dict[str, Any]], wanted: list[str]
) -> None:
    run(releases())
    helm.releases["gaie"].update(status=status, history=history)
    report = run(releases())
    assert helm.done()[3:] == wanted
    assert status in report.releases["gaie"]["healed"]
    assert not run(releases()).changed


def test_another_selector_replaces_the_release_and_says_so_first(run: Any, helm: FakeHelm) -> None:
    run(releases())
    other = [*releases()[:2], Release("ms", "model", "v0.3.17", "llm-d", {"label": "new"}, needs=("infra", "gaie"))]
    told: list[str] = []
    predicted = run(other, check_mode=True, warn=told.append)
    assert actions(predicted) == {"infra": "none", "gaie": "none", "ms": "replace"}
    assert len(helm.done()) == 3
    assert "Release ms is replaced" in told[0]
    assert "selector of Deployment llm-d/ms" in predicted.diff[0]["after"].splitlines()[0]
    run(other, warn=told.append)
    assert helm.done()[3:] == ["uninstall ms", "upgrade ms"]
    assert not run(other).changed


def test_a_failed_upgrade_over_another_selector_is_replaced_too(run: Any, helm: FakeHelm) -> None:
    """helm's newest record already holds the new selector; the live object still has the old one."""
    run(releases())
    other = [*releases()[:2], Release("ms", "model", "v0.3.17", "llm-d", {"label": "new"}, needs=("infra", "gaie"))]
    record = helm.releases["ms"]
    record["more"]["manifest"] = record["more"]["manifest"].replace("app: ms", "app: new")
    record.update(status="failed", history=[{"revision": 1, "status": "deployed"}])
    assert actions(run(other))["ms"] == "replace"
    assert helm.done()[3:] == ["uninstall ms", "upgrade ms"]


def test_what_somebody_changed_by_hand_is_shown_and_put_back(run: Any, helm: FakeHelm, api: Any) -> None:
    run(releases())
    api.objects[DEPLOYMENTS + "ms"]["spec"]["replicas"] = 0
    api.objects[DEPLOYMENTS + "ms"]["spec"]["paused"] = True  # not ours to know
    predicted = run(releases(), check_mode=True)
    assert actions(predicted) == {"infra": "none", "gaie": "none", "ms": "repair"}
    assert predicted.releases["ms"]["reasons"] == ["Deployment llm-d/ms was changed by hand (spec.replicas)"]
    assert api.objects[DEPLOYMENTS + "ms"]["spec"]["replicas"] == 0
    assert run(releases()).changed
    assert api.objects[DEPLOYMENTS + "ms"]["spec"]["replicas"] == 1
    assert len(helm.done()) == 3  # no new revision
    assert not run(releases()).changed


def test_what_an_autoscaler_has_set_is_no_drift_and_outlives_an_upgrade(run: Any, helm: FakeHelm, api: Any) -> None:
    def following(**values: Any) -> list[Release]:
        bounds = Bounds("ms", "replicas", 1, 4)
        return [*releases()[:2], replace(releases()[2], values={"replicas": 1, **values}, autoscaled=bounds)]

    run(following())
    live = api.objects[DEPLOYMENTS + "ms"]
    live["spec"]["replicas"] = 3
    live["status"].update(updatedReplicas=3, availableReplicas=3)
    again = run(following())
    assert actions(again) == {"infra": "none", "gaie": "none", "ms": "none"}
    assert not again.changed
    run(following(image="another"))
    assert helm.releases["ms"]["more"]["config"] == {"replicas": 3, "image": "another"}
    assert api.objects[DEPLOYMENTS + "ms"]["spec"]["replicas"] == 3


def test_a_refused_comparison_is_no_drift(run: Any, api: Any) -> None:
    run(releases())
    api.objects[DEPLOYMENTS + "ms"]["spec"]["replicas"] = 0
    api.refuse = lambda where, document: "admission says no"
    assert not run(releases(), wait=False).changed


def test_a_release_of_somebody_else_is_left_alone(run: Any, helm: FakeHelm) -> None:
    run(releases())
    helm.releases["gaie"]["chart"] = "wordpress-24.0.1"
    for check_mode in (True, False):
        with pytest.raises(LlmdError) as caught:
            run(releases(), check_mode=check_mode)
        assert caught.value.code == "RELEASE_FOREIGN"
        assert "wordpress-24.0.1" in caught.value.why
    assert len(helm.done()) == 3


def test_a_failure_keeps_what_was_done_and_the_rerun_finishes(run: Any, helm: FakeHelm) -> None:
    helm.failures["upgrade gaie"] = 'Error: clusterroles is forbidden: User "u" cannot create resource "clusterroles"'
    with pytest.raises(LlmdError) as caught:
        run(releases())
    assert caught.value.code == "HELM_RBAC_DENIED"
    assert "roles/container.admin" in caught.value.remedy
    assert helm.done() == ["upgrade infra", "upgrade gaie"]
    helm.failures.clear()
    assert run(releases()).changed
    assert helm.done()[2:] == ["upgrade gaie", "upgrade ms"]


def test_an_api_server_that_stumbles_is_asked_again_by_helm(helm: FakeHelm, clock: Any, tmp_path: Path) -> None:
    answers = [Completed(1, "", "Error: the server is currently unable to handle the request")] * 2
    wrapped = Helm("helm", lambda *_unused: answers.pop(0) if answers else Completed(0, "[]"), {}, clock=clock)
    assert wrapped.releases("llm-d", ["gaie"]) == {}
    assert clock.now() - 1000 == 3
    answers = [Completed(1, "", "Error: etcdserver: request timed out")]
    with pytest.raises(LlmdError) as caught:
        wrapped.uninstall("gaie", "llm-d")  # a write is not repeated behind anybody's back
    assert caught.value.code == "KUBERNETES_API_BUSY"


@pytest.mark.parametrize(
    "words",
    [
        'Error: looks like "https://x/" is not a valid chart repository or cannot be reached: Get "https://x": dial'
        " tcp: connect: connection refused",
        'Error: failed to do request: Head "https://registry/v2/x": dial tcp 10.0.0.1:443: i/o timeout',
        "Error: context deadline exceeded",
    ],
)
def test_a_chart_source_that_does_not_answer_is_not_taken_for_the_cluster(words: str, tmp_path: Path) -> None:
    wrapped = Helm("helm", lambda *_unused: Completed(1, "", words), {})
    with pytest.raises(LlmdError) as caught:
        wrapped.pull("x", "1.0.0", "https://x/", tmp_path)
    assert caught.value.code == "HELM_CHART_NOT_FOUND"


def test_half_an_upgrade_goes_back_to_what_was_deployed(run: Any, helm: FakeHelm) -> None:
    run(releases())
    helm.failures["upgrade ms"] = 'Error: UPGRADE FAILED: services is forbidden: User "u" cannot patch resource'
    with pytest.raises(LlmdError) as caught:
        run(releases(replicas=2))
    assert caught.value.code == "HELM_RBAC_DENIED"
    assert helm.done()[3:] == ["upgrade ms", "rollback ms"]
    with pytest.raises(LlmdError):
        run(releases(replicas=2), atomic=False)
    assert helm.done()[5:] == ["upgrade ms"]
    helm.failures["rollback ms"] = "Error: Kubernetes cluster unreachable: connection refused"
    with pytest.raises(LlmdError) as caught:  # the first failure is the one that is told
        run(releases(replicas=2))
    assert caught.value.code == "HELM_RBAC_DENIED"
    helm.failures.clear()
    assert run(releases(replicas=2)).changed


def test_absent_goes_backwards_and_waits(run: Any, helm: FakeHelm) -> None:
    run(releases())
    report = run(releases(), "absent", check_mode=True)
    assert report.changed
    assert len(helm.done()) == 3
    report = run(releases(), "absent")
    assert helm.done()[3:] == ["uninstall ms", "uninstall gaie", "uninstall infra"]
    assert not run(releases(), "absent").changed


def test_an_object_that_does_not_go_is_named(run: Any, helm: FakeHelm, api: Any) -> None:
    run(releases())
    helm.do_uninstall = lambda name, _arguments: helm.releases.pop(name) and ""  # type: ignore[method-assign]
    with pytest.raises(LlmdError) as caught:
        run(releases(), "absent", timeout=30)
    assert caught.value.code == "RELEASE_NOT_GONE"


def test_a_pods_reason_ends_the_wait(run: Any, helm: FakeHelm, api: Any, clock: Any) -> None:
    helm.ready = False
    api.put(
        "/api/v1/namespaces/llm-d/pods/ms-1",
        {
            "metadata": {"labels": {"app": "ms"}},
            "status": {
                "conditions": [{"type": "PodScheduled", "status": "True"}],
                "containerStatuses": [
                    {
                        "name": "vllm",
                        "state": {
                            "waiting": {
                                "reason": "CreateContainerConfigError",
                                "message": "couldn't find key HF_TOKEN in Secret llm-d/huggingface-token",
                            }
                        },
                    }
                ],
            },
        },
    )
    with pytest.raises(LlmdError) as caught:
        run(releases(), failure_grace=45)
    assert caught.value.code == "HF_SECRET_KEY_WRONG"
    assert 45 <= clock.now() - 1000 <= 48


def test_a_slow_rollout_that_names_no_cause_times_out_with_what_was_seen(run: Any, helm: FakeHelm) -> None:
    helm.ready = False
    with pytest.raises(LlmdError) as caught:
        run(releases(), timeout=60)
    assert caught.value.code == "ROLLOUT_TIMEOUT"
    assert "0 of 1 ready" in caught.value.why


def test_a_missing_chart_says_what_is_there(run: Any) -> None:
    with pytest.raises(LlmdError) as caught:
        run([Release("x", "infra", "v9.9.9", "llm-d")])
    assert caught.value.code == "HELM_CHART_NOT_FOUND"
    assert "infra-v1.3.6.tgz" in caught.value.why


def test_the_folder_can_be_handed_over(run: Any, tmp_path: Path) -> None:
    run(releases())
    folder = tmp_path / "helmfile"
    document = yaml.safe_load((folder / "helmfile.yaml").read_text())
    assert [entry["name"] for entry in document["releases"]] == ["infra", "gaie", "ms"]
    assert document["releases"][2]["needs"] == ["llm-d/infra", "llm-d/gaie"]
    for entry in document["releases"]:
        assert (folder / entry["chart"]).is_file()
        assert (folder / entry["values"][0]).is_file()
    assert "# The Gateway." in (folder / "helmfile.yaml").read_text()
    assert yaml.safe_load((folder / "values/infra.yaml").read_text()) == {"gateway": {"x": 1}}


def test_a_new_control_node_is_no_change_and_other_values_in_the_files_are(run: Any, tmp_path: Path) -> None:
    run(releases())
    shutil.rmtree(tmp_path / "helmfile")
    predicted = run(releases(), check_mode=True)
    assert (predicted.changed, bool(predicted.files)) == (False, True)
    again = run(releases())
    assert (again.changed, bool(again.files)) == (False, True)
    (tmp_path / "helmfile/values/infra.yaml").write_text("gateway: {x: 2}")
    assert run(releases()).changed


def test_no_secret_in_any_argument_and_the_file_is_private(helm: FakeHelm) -> None:
    params = {"host": "https://k", "api_key": "ya29.token", "ca_cert": "/ca"}
    with helm_access(params, {}) as access:
        path = Path(access.environment["KUBECONFIG"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["users"][0]["user"] == {"token": "ya29.token"}
        Helm("helm", helm, access.environment, access.context).releases("llm-d", ["x"])
    assert not path.exists()
    assert "ya29.token" not in json.dumps(helm.calls)
    with helm_access({}, {"K8S_AUTH_KUBECONFIG": "/k", "K8S_AUTH_CONTEXT": "c"}) as access:
        assert (access.environment, access.context) == ({"KUBECONFIG": "/k"}, "c")


HELMFILE = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *" diff "*) [ -e {done} ] && exit 0
    printf 'Affected releases are:\\n  ms (./charts/model-v0.3.17.tgz) UPDATED\\n\\n' >&2
    exit 2 ;;
  *" apply "*) touch {done}; exit 0 ;;
esac
exit 1
"""


def test_helmfile_decides_and_applies_where_it_is_wished(
    helm: FakeHelm, client: Any, clock: Any, tmp_path: Path, charts: Path, run: Any
) -> None:
    run(releases())
    log, program = tmp_path / "log", tmp_path / "helmfile-program"
    program.write_text(HELMFILE.format(log=log, done=tmp_path / "applied"))
    program.chmod(0o755)
    folder = tmp_path / "helmfile"

    def by_helmfile() -> Any:
        scratch = tmp_path / f"hf{len(helm.calls)}"
        scratch.mkdir()
        helmfile = Helmfile((str(program), "helm"), system_runner, {}, folder)
        settings = Settings(scratch, folder, chart_source=str(charts), wait=False)
        return Deployer(Helm("helm", helm, {}), client, settings, helmfile, clock).present(releases())

    first = by_helmfile()
    assert first.changed
    assert actions(first) == {"infra": "none", "gaie": "none", "ms": "upgrade"}
    assert not by_helmfile().changed
    assert "--detailed-exitcode" in log.read_text()
    assert log.read_text().count(" apply ") == 1


def test_helmfiles_summary_is_understood() -> None:
    text = "Affected releases are:\n  ms-pattern1 (./pkgs/x.tgz) UPDATED\n  new (./y.tgz) ADDED\n\nIdentified at least one change\n"  # noqa: E501
    assert affected(text) == {"ms-pattern1": "UPDATED", "new": "ADDED"}


# --- the real helm, without a cluster ---------------------------------------------------------------------------------

REAL = shutil.which("helm") or shutil.which("helm", path=os.environ.get("LLMD_GKE_TOOLS", ""))


@pytest.mark.skipif(not REAL, reason="no helm on this machine")
def test_the_real_helm_renders_and_refuses(tmp_path: Path) -> None:
    chart = tmp_path / "tiny"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: tiny\nversion: v1.2.3\n")
    (chart / "values.schema.json").write_text(
        '{"type": "object", "additionalProperties": false, "properties": {"a": {}}}'
    )
    (chart / "templates/c.yaml").write_text(
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: "{{ .Values.a }}"}\n'
    )
    subprocess.run([str(REAL), "package", str(chart), "-d", str(tmp_path)], check=True, capture_output=True)
    values = tmp_path / "values.yaml"
    values.write_text("a: 5\n")
    helm = Helm(str(REAL), system_runner, {})
    assert 'a: "5"' in helm.template("t", "n", str(tmp_path / "tiny-v1.2.3.tgz"), values).replace("{a:", "a:")
    values.write_text("b: 5\n")
    with pytest.raises(LlmdError) as caught:
        helm.template("t", "n", str(tmp_path / "tiny-v1.2.3.tgz"), values)
    assert caught.value.code == "HELM_SCHEMA_REFUSED"
    with pytest.raises(LlmdError) as caught:
        helm.template("t", "n", str(tmp_path / "none.tgz"), values)
    assert caught.value.code == "HELM_CHART_NOT_FOUND"
