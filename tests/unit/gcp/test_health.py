"""Regional backend services' health."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import Endpoint, backend_health, backend_names

GROUP = "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-central1-a/networkEndpointGroups/neg-"


def healthy(ip: str, state: str = "HEALTHY") -> dict[str, Any]:
    instance = "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-central1-a/instances/node-1"
    return {"healthState": state, "ipAddress": ip, "port": 8000, "instance": instance}


def test_every_group_is_asked(google: Any, error_reply: Callable[..., Any]) -> None:
    google.on("GET", "backendServices/pool$", {"backends": [{"group": GROUP + "a"}, {"group": GROUP + "b"}]})
    google.on("GET", "backendServices/empty$", {"name": "empty"})
    missing = "The resource 'projects/my-project/regions/r/backendServices/gone' was not found"
    google.on("GET", "backendServices/gone$", error_reply(404, missing, reason="notFound"))
    answers = {
        GROUP + "a": {"healthStatus": [healthy("10.4.0.6"), healthy("10.4.0.7", "UNHEALTHY")]},
        GROUP + "b": {"kind": "compute#backendServiceGroupHealth"},
    }
    google.on("POST", "backendServices/pool/getHealth$", lambda request: answers[request.body["group"]])
    pool, empty, gone = backend_health(google.session(), "my-project", "r", ["pool", "empty", "gone"])
    assert (pool.healthy, pool.total, pool.groups, pool.all_healthy) == (1, 2, 2, False)
    assert pool.endpoints[0] == Endpoint("10.4.0.6", 8000, "HEALTHY", "node-1", "neg-a")
    assert (empty.total, empty.all_healthy, empty.exists) == (0, False, True)
    assert (gone.exists, gone.all_healthy) == (False, False)
    assert pool.as_result()["endpoints"][1]["state"] == "UNHEALTHY"


def test_services_are_found_by_name_where_nothing_names_them(google: Any) -> None:
    names = [
        "gkegw1-on7z-llm-d-gaie-ips-54321-x",
        "gkegw1-on7z-llm-d-gw-serve404-80-y",
        "gkegw1-zzzz-llm-d-old-80-z",
        "web",
    ]
    google.on("GET", "backendServices[?]", {"items": [{"name": name} for name in names]})
    session = google.session()
    assert backend_names(session, "my-project", "r", "llm-d", "on7z") == [names[0]]
    assert backend_names(session, "my-project", "r", "llm-d") == [names[0], names[2]]
    assert "filter=name+eq+%22gkegw1-on7z" in google.requests[0].url
