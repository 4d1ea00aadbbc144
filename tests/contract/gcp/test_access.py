"""Who may do what: tokens, roles, services, projects, and the texts of the refusals."""

from __future__ import annotations

import pytest

from sandbox.gcp import accessreview, roles, tokenreview
from sandbox.gcp.testing import Cloud

CRM = "cloudresourcemanager.googleapis.com/v1/projects"


def test_a_missing_unknown_or_expired_token_is_401(cloud: Cloud) -> None:
    expired = cloud.world.accounts.issue("person@example.com", lifetime=-1)
    for token, reason in (
        ("", "CREDENTIALS_MISSING"),
        ("no", "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        (expired, "ACCESS_TOKEN_EXPIRED"),
    ):
        answer = cloud.send("GET", f"{cloud.compute}", token=token)
        error = answer.json()["error"]
        assert (answer.status_code, error["status"]) == (401, "UNAUTHENTICATED")
        assert error["details"][0]["reason"] == reason
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")


@pytest.mark.parametrize(
    ("verb", "path", "body", "message"),
    [
        ("POST", "{container}/clusters", {"cluster": {"name": "c"}},
         'Required "container.clusters.create" permission(s) for "projects/llmd-sandbox".'),
        ("GET", "{container}/clusters/c", None,
         'Required "container.clusters.get" permission(s) for "projects/llmd-sandbox/zones/us-central1-a/clusters/c".'),
        ("POST", "{compute}/regions/us-central1/subnetworks", {"name": "s"},
         "Required 'compute.subnetworks.create' permission for "
         "'projects/llmd-sandbox/regions/us-central1/subnetworks/s'"),
        ("GET", "{compute}/regions/us-central1/subnetworks", None,
         "Required 'compute.subnetworks.list' permission for 'projects/llmd-sandbox'"),
        ("POST", CRM + "/llmd-sandbox:getIamPolicy", {}, "The caller does not have permission"),
    ],
)  # fmt: skip
def test_a_missing_permission_is_403(cloud: Cloud, verb: str, path: str, body: object, message: str) -> None:
    token = cloud.token_of()
    error = cloud.fails(403, verb, path.format(container=cloud.container, compute=cloud.compute), body, token=token)
    assert error["message"] == message
    assert error["errors"][0]["reason"] == "forbidden"


def test_creating_a_cluster_also_needs_act_as(cloud: Cloud) -> None:
    token = cloud.token_of("roles/container.admin")
    error = cloud.fails(403, "POST", f"{cloud.container}/clusters", cloud.cluster_body(), token=token)
    assert 'does not have access to service account "default"' in error["message"]
    token = cloud.token_of("roles/container.admin", "roles/iam.serviceAccountUser")
    cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body(), token=token)


def test_a_disabled_api_is_explained(fresh: Cloud) -> None:
    error = fresh.fails(403, "GET", f"{fresh.container}/clusters")
    assert (error["status"], error["errors"][0]["reason"]) == ("PERMISSION_DENIED", "accessNotConfigured")
    assert error["errors"][0]["domain"] == "usageLimits"
    assert error["message"].startswith(
        "Kubernetes Engine API has not been used in project 123456789012 before or it is disabled."
    )
    details = {one["@type"].rsplit(".", 1)[-1]: one for one in error["details"]}
    assert details["ErrorInfo"]["reason"] == "SERVICE_DISABLED"
    assert details["ErrorInfo"]["metadata"]["service"] == "container.googleapis.com"
    assert details["ErrorInfo"]["metadata"]["consumer"] == "projects/123456789012"
    assert set(details) == {"ErrorInfo", "LocalizedMessage", "Help"}


def test_another_project_is_refused_in_each_api_s_words(cloud: Cloud) -> None:
    def message(path: str, status: int) -> str:
        return str(cloud.fails(status, "GET", path)["message"])

    assert message(f"{CRM}/other", 403) == "The caller does not have permission"
    assert message("compute.googleapis.com/compute/v1/projects/other", 404) == "Failed to find project other"
    other = "container.googleapis.com/v1/projects/other/locations/-/clusters"
    assert message(other, 403) == "Permission denied on resource project other."
    services = "serviceusage.googleapis.com/v1/projects/other/services"
    assert message(services, 403) == "Project 'other' not found or permission denied."


def test_the_project_number_is_the_project(cloud: Cloud) -> None:
    path = cloud.container.replace("llmd-sandbox", "123456789012")
    assert cloud.ok("GET", f"{path}/clusters") == {}
    assert cloud.ok("GET", f"{CRM}/123456789012")["projectId"] == "llmd-sandbox"


def test_permissions_can_be_tested_without_any(cloud: Cloud) -> None:
    wanted = ["container.clusters.create", "container.clusterRoles.create", "compute.subnetworks.create",
              "resourcemanager.projects.setIamPolicy", "serviceusage.services.enable"]  # fmt: skip
    path = f"{CRM}/llmd-sandbox:testIamPermissions"

    def held(token: str) -> list[str]:
        return list(cloud.ok("POST", path, {"permissions": wanted}, token=token).get("permissions", []))

    assert held(cloud.token) == wanted
    assert held(cloud.token_of()) == []
    editor = [
        name
        for name in wanted
        if name not in ("container.clusterRoles.create", "resourcemanager.projects.setIamPolicy")
    ]
    assert held(cloud.token_of("roles/editor")) == editor
    assert held(cloud.token_of("roles/editor", "roles/container.admin")) == wanted[:3] + wanted[4:]


@pytest.mark.parametrize("permission", ["billing.accounts.get", "container.clusters.frobnicate", "nonsense"])
def test_permissions_that_cannot_be_are_refused(cloud: Cloud, permission: str) -> None:
    error = cloud.fails(400, "POST", f"{CRM}/llmd-sandbox:testIamPermissions", {"permissions": [permission]})
    assert error["message"] == f"Permission {permission} is not valid for this resource."


def test_a_policy_is_read_modified_and_written(cloud: Cloud) -> None:
    policy = cloud.ok("POST", f"{CRM}/llmd-sandbox:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
    policy["bindings"].append({"role": "roles/container.admin", "members": ["user:new@example.com"]})
    # as gcloud sends it back: the other alphabet, no padding
    policy["etag"] = policy["etag"].translate(str.maketrans("+/", "-_")).rstrip("=")
    written = cloud.ok("POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": policy})
    assert written["etag"] != policy["etag"]
    assert "roles/container.admin" in cloud.world.roles_of("new@example.com")
    error = cloud.fails(409, "POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": policy})
    assert error["status"] == "ABORTED"
    assert "concurrent policy changes" in error["message"]


def test_a_policy_with_nonsense_is_refused(cloud: Cloud) -> None:
    for binding in ({"role": "roles/nothing", "members": ["user:a@b"]}, {"role": "roles/owner", "members": ["a@b"]}):
        cloud.fails(400, "POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": {"bindings": [binding]}})


def test_both_versions_of_resource_manager(cloud: Cloud) -> None:
    assert cloud.ok("GET", f"{CRM}/llmd-sandbox")["lifecycleState"] == "ACTIVE"
    assert cloud.ok("GET", "cloudresourcemanager.googleapis.com/v3/projects/llmd-sandbox")["state"] == "ACTIVE"


def test_service_accounts(cloud: Cloud) -> None:
    path = "iam.googleapis.com/v1/projects/llmd-sandbox/serviceAccounts"
    made = cloud.ok("POST", path, {"accountId": "robot-one", "serviceAccount": {"displayName": "Robot"}})
    assert made["email"] == "robot-one@llmd-sandbox.iam.gserviceaccount.com"
    assert cloud.ok("POST", f"{path}/{made['email']}/keys", {})["privateKeyData"]
    assert len(cloud.ok("GET", path)["accounts"]) == 4
    cloud.ok("DELETE", f"{path}/{made['email']}")
    cloud.fails(404, "GET", f"{path}/{made['email']}")


def test_roles_say_what_the_facts_say() -> None:
    assert roles.cluster_groups(["roles/owner", "roles/viewer"]) == [
        "gke:roles/container.admin",
        "gke:roles/container.viewer",
    ]
    assert roles.cluster_groups(["roles/container.clusterAdmin"]) == []
    assert not roles.holds(["roles/container.admin"], "compute.subnetworks.create")
    assert roles.holds(["roles/compute.networkAdmin"], "compute.subnetworks.create")
    assert not roles.holds(["roles/owner"], "iam.serviceAccounts.getAccessToken")
    assert not roles.holds(["projects/p/roles/custom"], "compute.projects.get")


def test_a_planted_principal_has_only_its_roles(cloud: Cloud) -> None:
    """``fault plant roles E-MAIL ROLE,ROLE``: in the project and inside clusters, until it is cleared."""
    email = cloud.world.email("llmd-operator")
    planted = cloud.world.faults.plant({"words": ["roles", email, "roles/editor,roles/container.developer"]})
    path = f"{CRM}/llmd-sandbox:testIamPermissions"
    wanted = {"permissions": ["container.clusters.create", "container.clusterRoles.create"]}
    assert cloud.ok("POST", path, wanted)["permissions"] == ["container.clusters.create"]
    review = {"apiVersion": "authentication.k8s.io/v1", "spec": {"token": cloud.token}}
    assert tokenreview.review(cloud.world, "c", review)["status"]["user"]["groups"] == ["gke:roles/container.developer"]
    cloud.world.faults.clear(planted["id"])
    cloud.world.faults.plant({"words": ["roles", email]})
    assert cloud.ok("POST", path, wanted) == {}
    cloud.world.faults.clear()
    assert cloud.ok("POST", path, wanted)["permissions"] == wanted["permissions"]


def test_conditions_survive_only_in_version_3(cloud: Cloud) -> None:
    binding = {
        "role": "roles/viewer",
        "members": ["user:new@example.com"],
        "condition": {"title": "t", "expression": "true"},
    }
    policy = cloud.ok("POST", f"{CRM}/llmd-sandbox:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
    policy["bindings"].append(binding)
    cloud.fails(400, "POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": {**policy, "version": 1}})
    written = cloud.ok("POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": {**policy, "version": 3}})
    assert (written["version"], binding in written["bindings"]) == (3, True)
    plain = cloud.ok("POST", f"{CRM}/llmd-sandbox:getIamPolicy", {})
    assert plain["version"] == 1
    assert any("_withcond_" in one["role"] for one in plain["bindings"])
    assert not any("condition" in one for one in plain["bindings"])
    audit = {"policy": {"auditConfigs": [{"service": "allServices"}]}, "updateMask": "auditConfigs"}
    kept = cloud.ok("POST", f"{CRM}/llmd-sandbox:setIamPolicy", audit)
    assert binding in kept["bindings"]


def test_a_deleted_account_stays_in_the_policy_as_deleted(cloud: Cloud) -> None:
    path = "iam.googleapis.com/v1/projects/llmd-sandbox/serviceAccounts"
    email = cloud.ok("POST", path, {"accountId": "robot-one", "serviceAccount": {"description": "mine"}})["email"]
    assert cloud.ok("GET", f"{path}/{email}")["description"] == "mine"
    policy = cloud.ok("POST", f"{CRM}/llmd-sandbox:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
    policy["bindings"].append({"role": "roles/viewer", "members": [f"serviceAccount:{email}"]})
    cloud.ok("POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": policy})
    cloud.ok("DELETE", f"{path}/{email}")
    left = cloud.ok("POST", f"{CRM}/llmd-sandbox:getIamPolicy", {})["bindings"]
    members = [member for one in left for member in one["members"]]
    assert f"serviceAccount:{email}" not in members
    assert any(member.startswith(f"deleted:serviceAccount:{email}?uid=") for member in members)


@pytest.mark.parametrize("name", ["robot", "Robot-one", "-robot-one", "r" * 31])
def test_bad_names_of_accounts_are_refused(cloud: Cloud, name: str) -> None:
    cloud.fails(400, "POST", "iam.googleapis.com/v1/projects/llmd-sandbox/serviceAccounts", {"accountId": name})


def test_a_planted_busy_cluster(cloud: Cloud) -> None:
    cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    change = {"update": {"desiredGatewayApiConfig": {"channel": "CHANNEL_DISABLED"}}}
    path = f"{cloud.container}/clusters/llm-d-cluster"
    planted = cloud.world.faults.plant({"words": ["cluster-busy", "llm-d-cluster"]})
    error = cloud.fails(400, "PUT", path, change)
    assert error["message"].startswith("Cluster is running incompatible operation operation-")
    cloud.world.faults.clear(planted["id"])
    cloud.world.faults.plant({"words": ["cluster-busy", "*", "0"]})  # its time is over at once
    cloud.run("PUT", path, change)


# --- custom roles and the authorizer of clusters --------------------------------------------------------------------

IAM = "iam.googleapis.com/v1/projects/llmd-sandbox/roles"
OPERATOR = "llmd-operator@llmd-sandbox.iam.gserviceaccount.com"


def own_role(cloud: Cloud, *permissions: str) -> str:
    """Leave the caller nothing but a custom role with these permissions."""
    role = {"title": "Mine", "stage": "GA", "includedPermissions": list(permissions)}
    name: str = cloud.ok("POST", IAM, {"roleId": "mine", "role": role})["name"]
    policy = cloud.ok("POST", f"{CRM}/llmd-sandbox:getIamPolicy", {})
    policy["bindings"] = [{"role": name, "members": [f"serviceAccount:{OPERATOR}"]}]
    cloud.ok("POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": policy})
    return name


def may(cloud: Cloud, verb: str, resource: str, group: str = "", subresource: str = "") -> bool:
    """What a cluster's API server is told about a request of the caller."""
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    spec = {"user": OPERATOR, "resourceAttributes": attributes}
    answer = cloud.ok("POST", "kubernetes/accessreview/key", {"apiVersion": "authorization.k8s.io/v1", "spec": spec})
    return bool(answer["status"]["allowed"])


def test_a_custom_role_gives_exactly_what_it_lists(cloud: Cloud) -> None:
    name = own_role(cloud, "compute.regions.get", "container.pods.list", "container.thirdPartyObjects.get")
    asked = {"permissions": ["compute.regions.get", "compute.zones.get", "container.pods.list"]}
    held = cloud.ok("POST", f"{CRM}/llmd-sandbox:testIamPermissions", asked)
    assert held["permissions"] == ["compute.regions.get", "container.pods.list"]
    assert cloud.ok("GET", f"{cloud.compute}/regions/us-central1")["name"] == "us-central1"
    assert "compute.zones.get" in cloud.fails(403, "GET", f"{cloud.compute}/zones/us-central1-a")["message"]
    assert may(cloud, "watch", "pods")
    assert may(cloud, "get", "httproutes", "gateway.networking.k8s.io")
    assert not may(cloud, "get", "pods")
    assert not may(cloud, "patch", "httproutes", "gateway.networking.k8s.io")
    cloud.world.custom_roles[name]["deleted"] = True
    assert cloud.ok("POST", f"{CRM}/llmd-sandbox:testIamPermissions", asked) == {}


@pytest.mark.parametrize(
    ("request_", "permission"),
    [  # rows of Google's page "GKE API permissions"
        (("create", "pods", "", ""), "container.pods.create"),
        (("deletecollection", "pods", "", ""), "container.pods.delete"),
        (("patch", "configmaps", "", ""), "container.configMaps.update"),
        (("get", "pods", "", "log"), "container.pods.getLogs"),
        (("create", "pods", "", "exec"), "container.pods.exec"),
        (("get", "services", "", "proxy"), "container.services.proxy"),
        (("update", "deployments", "apps", "scale"), "container.deployments.updateScale"),
        (("get", "deployments", "apps", "status"), "container.deployments.getStatus"),
        (("list", "customresourcedefinitions", "apiextensions.k8s.io", ""), "container.customResourceDefinitions.list"),
        (("update", "inferencepools", "inference.networking.k8s.io", ""), "container.thirdPartyObjects.update"),
        (("escalate", "clusterroles", "rbac.authorization.k8s.io", ""), "container.clusterRoles.escalate"),
    ],
)
def test_a_request_to_a_cluster_is_one_permission(request_: tuple[str, ...], permission: str) -> None:
    attributes = dict(zip(("verb", "resource", "group", "subresource"), request_, strict=True))
    assert accessreview.permission_of(attributes) == permission


def test_what_requests_needed_is_noted_and_what_was_only_asked_for_is_not(cloud: Cloud) -> None:
    own_role(cloud, "compute.regions.get")
    cloud.server.control.handle("DELETE", "permissions", {}, None)
    cloud.ok("POST", f"{CRM}/llmd-sandbox:testIamPermissions", {"permissions": ["compute.zones.get"]})
    cloud.ok("GET", f"{cloud.compute}/regions/us-central1")
    may(cloud, "list", "secrets")
    _status, found = cloud.server.control.handle("GET", "permissions", {}, None)
    assert found["needed"][OPERATOR] == {
        "compute.regions.get": ["compute.regions.get"],
        "container.secrets.list": ["kubernetes: list secrets"],
    }


def test_whom_iam_does_not_know_rbac_decides_about(cloud: Cloud) -> None:
    spec = {"user": "system:serviceaccount:a:b", "resourceAttributes": {"verb": "list", "resource": "pods"}}
    answer = cloud.ok("POST", "kubernetes/accessreview/key", {"apiVersion": "authorization.k8s.io/v1", "spec": spec})
    assert answer["status"] == {"allowed": False}
    assert "system:serviceaccount:a:b" not in cloud.world.needed


def test_custom_roles_are_kept_read_changed_and_deleted(cloud: Cloud) -> None:
    role = {"title": "One", "includedPermissions": ["compute.zones.get"]}
    name = cloud.ok("POST", IAM, {"roleId": "one", "role": role})["name"]
    assert cloud.fails(409, "POST", IAM, {"roleId": "one", "role": role})["status"] == "ALREADY_EXISTS"
    cloud.fails(400, "POST", IAM, {"roleId": "a b", "role": role})
    cloud.fails(400, "POST", IAM, {"roleId": "two", "role": {"includedPermissions": ["no.such"]}})
    assert "includedPermissions" not in cloud.ok("GET", IAM)["roles"][0]
    assert cloud.ok("GET", f"{IAM}?view=FULL")["roles"][0]["includedPermissions"] == ["compute.zones.get"]
    changed = {"title": "Other", "includedPermissions": []}
    assert cloud.ok("PATCH", f"iam.googleapis.com/v1/{name}?updateMask=title", changed)["title"] == "Other"
    assert cloud.ok("GET", f"iam.googleapis.com/v1/{name}")["includedPermissions"] == ["compute.zones.get"]
    assert cloud.ok("DELETE", f"iam.googleapis.com/v1/{name}")["deleted"] is True
    policy = {"bindings": [{"role": name, "members": [f"serviceAccount:{OPERATOR}"]}]}
    refused = cloud.fails(400, "POST", f"{CRM}/llmd-sandbox:setIamPolicy", {"policy": policy})
    assert "does not exist" in refused["message"]
