"""The front end: proxy with TLS, batch, control interface, faults, log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.gcp.faults import BadFault, Faults
from sandbox.gcp.testing import Cloud

CREATE = "container.projects.locations.clusters.create"


def control(cloud: Cloud, verb: str, path: str, body: Any = None) -> Any:
    answer = requests.request(verb, f"{cloud.server.url}/control/{path}", json=body, timeout=5)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_google_s_own_urls_through_the_proxy(cloud: Cloud, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(cloud.server.authority.pem)
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"https": cloud.server.url}
        session.verify = str(authority)
        session.headers["Authorization"] = f"Bearer {cloud.token}"
        for url in ("https://compute.googleapis.com/compute/v1/projects/llmd-sandbox",
                    "https://www.googleapis.com/compute/v1/projects/llmd-sandbox"):  # fmt: skip
            for _ in range(2):
                assert session.get(url, timeout=5).json()["name"] == "llmd-sandbox"
        with pytest.raises(requests.exceptions.ProxyError):
            session.get("https://example.com/", timeout=5)


def test_the_proxy_passes_on_what_lies_inside(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.gcp.server._inside", lambda host: host == "127.0.0.1")
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", cloud.server.server_port, timeout=5)
    connection.set_tunnel("127.0.0.1", cloud.server.server_port)
    connection.request("GET", "/control/status")
    assert json.loads(connection.getresponse().read())["ready"] is True
    connection.close()


def test_a_batch_is_many_requests(cloud: Cloud) -> None:
    boundary = "b1"
    paths = ["/compute/v1/projects/llmd-sandbox/regions/us-central1", "/compute/v1/projects/llmd-sandbox/regions/mars"]
    parts = [
        f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <x+{number}>\r\n\r\n"
        f"GET {path} HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n"
        for number, path in enumerate(paths)
    ]
    answer = requests.post(
        f"{cloud.server.url}/compute.googleapis.com/batch/compute/v1",
        data="".join(parts) + f"--{boundary}--",
        headers={"Content-Type": f"multipart/mixed; boundary={boundary}", "Authorization": f"Bearer {cloud.token}"},
        timeout=5,
    )
    assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=batch_")
    assert "HTTP/1.1 200 OK" in answer.text
    assert "HTTP/1.1 404 Not Found" in answer.text
    assert "Content-ID: <response-x+1>" in answer.text


def test_status_speed_and_snapshot(cloud: Cloud) -> None:
    status = control(cloud, "GET", "status")
    assert (status["ready"], status["speed"], status["clusters"], status["gateways"]) == (True, 0, {}, [])
    assert control(cloud, "POST", "speed", {"speed": 60}) == {"speed": 60}
    assert cloud.emulator.timing.speed == 60
    bad = requests.post(f"{cloud.server.url}/control/speed", json={"speed": -1}, timeout=5)
    assert bad.status_code == 400
    assert control(cloud, "GET", "snapshot")["compute"]["networks"]["global/default"]["name"] == "default"
    assert "dns.googleapis.com" in control(cloud, "POST", "services", {"enable": ["dns.googleapis.com"]})["services"]
    assert requests.get(f"{cloud.server.url}/control/nothing", timeout=5).status_code == 404


def test_seeds(cloud: Cloud) -> None:
    rule = {"name": "r", "IPAddress": "203.0.113.1", "loadBalancingScheme": "EXTERNAL_MANAGED"}
    seed = {
        "resources": [{"collection": "forwardingRules", "scope": "regions/us-central1", "body": rule}],
        "quotas": {"us-central1": {"NVIDIA_T4_GPUS": 0}, "project": {"GPUS_ALL_REGIONS": 0}},
        "tokens": ["llmd-editor@llmd-sandbox.iam.gserviceaccount.com"],
    }
    token = control(cloud, "POST", "seed", seed)["tokens"][seed["tokens"][0]]  # type: ignore[index]
    assert cloud.ok("GET", cloud.compute, token=token)
    gateways = control(cloud, "GET", "status")["gateways"]
    assert gateways == [{"name": "r", "address": "203.0.113.1", "region": "us-central1"}]
    assert cloud.world.region_quotas["us-central1"]["NVIDIA_T4_GPUS"] == 0


def test_a_fault_strikes_as_often_as_planted(cloud: Cloud) -> None:
    control(cloud, "POST", "faults", {"method": CREATE, "times": 2, "http": 503})
    for _ in range(2):
        error = cloud.fails(503, "POST", f"{cloud.container}/clusters", cloud.cluster_body())
        assert (error["status"], error["errors"][0]["reason"]) == ("UNAVAILABLE", "backendError")
    cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert control(cloud, "GET", "faults") == {"faults": []}


def test_a_fault_may_say_when_to_come_back(cloud: Cloud) -> None:
    control(cloud, "POST", "faults", {"method": "compute.projects.*", "http": 429, "retryAfter": 3})
    answer = cloud.send("GET", cloud.compute)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert answer.json()["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_operations_can_fail(cloud: Cloud) -> None:
    quota = {"operation": "compute.subnetworks.insert", "code": "QUOTA_EXCEEDED", "http": 403,
             "message": "Quota 'SUBNETWORKS' exceeded.  Limit: 1.0 globally."}  # fmt: skip
    control(cloud, "POST", "faults", quota)
    body = {"name": "s", "ipCidrRange": "192.168.0.0/23", "network": "global/networks/default"}
    done = cloud.run("POST", f"{cloud.compute}/regions/us-central1/subnetworks", body)
    assert done["error"]["errors"] == [{"code": "QUOTA_EXCEEDED", "message": quota["message"]}]
    assert (done["httpErrorStatusCode"], done["httpErrorMessage"]) == (403, "FORBIDDEN")
    cloud.fails(404, "GET", f"{cloud.compute}/regions/us-central1/subnetworks/s")
    control(cloud, "POST", "faults", {"operation": CREATE, "message": "Try again later.", "code": 14})
    operation = cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert (operation["error"], operation["statusMessage"]) == (
        {"code": 14, "message": "Try again later."},
        "Try again later.",
    )
    assert cloud.ok("GET", f"{cloud.container}/clusters/llm-d-cluster")["status"] == "ERROR"


def test_named_faults(cloud: Cloud) -> None:
    control(cloud, "POST", "faults", {"words": ["api-disabled", "container"]})
    error = cloud.fails(403, "GET", f"{cloud.container}/clusters")
    assert error["errors"][0]["reason"] == "accessNotConfigured"
    control(cloud, "DELETE", "faults/api-disabled")
    cloud.world.enable(["container.googleapis.com"])
    cloud.ok("GET", f"{cloud.container}/clusters")
    control(cloud, "POST", "faults", {"words": ["gpu-quota", "0"]})
    error = cloud.fails(403, "POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert 'resource "NVIDIA_T4_GPUS"' in error["message"]
    body = {"name": "s", "ipCidrRange": "192.168.0.0/23", "network": "global/networks/default",
            "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE"}  # fmt: skip
    cloud.run("POST", f"{cloud.compute}/regions/us-central1/subnetworks", body)
    control(cloud, "POST", "faults", {"name": "proxy-subnet-missing"})
    cloud.fails(404, "GET", f"{cloud.compute}/regions/us-central1/subnetworks/s")
    cloud.run("POST", f"{cloud.compute}/regions/us-central1/subnetworks", body)
    assert cloud.world.active_proxy_subnet("us-central1") is None
    assert control(cloud, "DELETE", "faults") == {"cleared": 2}
    assert cloud.world.active_proxy_subnet("us-central1") is not None


@pytest.mark.parametrize(
    ("words", "planted"),
    [
        (["api", "503", "x3", "a.b.c"], {"method": "a.b.c", "http": 503, "times": 3}),
        (["api", "a.*"], {"method": "a.*", "http": 503, "times": 1}),
        (["operation", "a.b", "no", "luck"], {"operation": "a.b", "message": "no luck"}),
        (["stockout", "us-central1-a"], {"name": "stockout", "zone": "us-central1-a"}),
        (["api-disabled", "dns"], {"name": "api-disabled", "service": "dns.googleapis.com"}),
    ],
)
def test_faults_in_words(words: list[str], planted: dict[str, Any]) -> None:
    described = Faults().plant({"words": words})
    assert planted.items() <= described.items()


@pytest.mark.parametrize(
    "spec",
    [{"words": []}, {"words": ["api", "503"]}, {"words": ["nothing"]}, {"name": "stockout"},
     {"name": "gpu-quota", "limit": "x"}, {"method": "a", "http": 200},
     {"method": "a", "times": 0}, {"method": "a", "name": "stockout"}, {}],
)  # fmt: skip
def test_bad_faults_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(BadFault):
        Faults().plant(spec)


def test_the_log_tells_everything_but_secrets(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ok("GET", f"oauth2.googleapis.com/tokeninfo?access_token={cloud.token}")
    requests.post(f"{cloud.server.url}/oauth2.googleapis.com/token", data={"assertion": "secret-assertion"}, timeout=5)
    cloud.fails(404, "GET", f"{cloud.container}/clusters/none")
    text = (tmp_path / "gcp-requests.jsonl").read_text()
    assert cloud.token not in text
    assert "secret-assertion" not in text
    last = json.loads(text.splitlines()[-1])
    assert (last["method"], last["status"]) == ("container.projects.locations.clusters.get", 404)
    assert last["answer"]["error"]["status"] == "NOT_FOUND"


def test_paths_that_mean_nothing_are_not_found(cloud: Cloud) -> None:
    assert cloud.send("GET", "compute.googleapis.com/nothing").status_code == 404
    assert cloud.send("GET", "example.com/x").status_code == 404
    assert cloud.send("GET", "kubernetes/other").status_code == 404
    assert cloud.fails(501, "GET", "networkservices.googleapis.com/v1/projects/llmd-sandbox/locations/global/meshes")
