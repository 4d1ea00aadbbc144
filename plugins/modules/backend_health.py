#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backend_health
short_description: Wait until the load balancer sees every endpoint of a Gateway as HEALTHY
version_added: 0.1.0
description:
  - Asks Google Cloud for the health of the Gateway's regional backend services, endpoint by endpoint, until all of them
    are HEALTHY. A Gateway can be programmed and its pods Ready while the load balancer still sends nothing to them.
  - The services are found from the annotation that GKE's controller writes on the Gateway, or named. The default
    service
    (C(serve404)) never has endpoints and is left out.
  - When time is up it says why, as far as the cluster knows (pod not Ready, no HealthCheckPolicy, wrong port,
    firewall).
  - It only reads. RV(ignore:changed) is always false.
extends_documentation_fragment:
  - llmd.gke.gcp
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  region:
    description:
      - Region of the services; by default the one that the Gateway's annotation names. Where a programmed Gateway
        carries no annotation, the services are found in this region by their names.
    type: str
  gateway:
    description: Gateway whose services to look at. This, O(gateways) or O(backend_services) is needed.
    type: str
  gateways:
    description: Several Gateways of one namespace, looked at together.
    type: list
    elements: str
  namespace:
    description: Namespace of the Gateway.
    type: str
  backend_services:
    description: Names of the services, instead of O(gateway). Needs O(region).
    type: list
    elements: str
  min_endpoints:
    description: How many endpoints each service must have at least.
    type: int
    default: 1
  wait:
    description: Wait until all are HEALTHY. With V(false) look once and do not fail.
    type: bool
    default: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 600
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
attributes:
  check_mode:
    support: full
    description: Looks once, does not wait, does not fail.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Wait until every endpoint behind the Gateway is HEALTHY
  llmd.gke.backend_health:
    project: my-project
    kubeconfig: "{{ kubeconfig }}"
    gateway: infra-pattern1-inference-gateway
    namespace: llm-d
"""

RETURN = r"""
backends:
  description: The services with their endpoints.
  returned: success
  type: list
  elements: dict
  sample:
    - name: gkegw1-on7z-llm-d-gaie-pattern1-ips-54321-x
      endpoints: [{ip: 10.4.1.7, port: 8000, state: HEALTHY, instance: gke-node-1, group: k8s1-neg}]
      healthy: 1
      total: 1
      exists: true
healthy:
  description: Whether all services have their endpoints and all endpoints are HEALTHY.
  returned: success
  type: bool
detail:
  description: The state in words.
  returned: success
  type: str
  sample: 2 of 2 backend services healthy
api_calls:
  description: Number of requests to Google Cloud by API method.
  returned: always
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: BACKEND_POD_NOT_READY, what: "...", remedy: "..."}
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, KubernetesError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import run as run_with_session
from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import (
    BackendHealth,
    backend_health,
    backend_names,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import backend_service_refs, cluster_mark
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import GATEWAY, HEALTH_CHECK_POLICY, POD
from ansible_collections.llmd.gke.plugins.module_utils.llmd.backends import (
    ClusterView,
    ServiceRef,
    enough,
    parse_ref,
    poll,
    say,
)

Listed = Callable[[str, str], list[ServiceRef]]


def services_of(client: KubeClient, gateway: str, namespace: str, listed: Listed) -> list[ServiceRef]:
    """A Gateway's own services, the default one left out; [] before its first sync.

    Where a programmed Gateway carries no annotation they are found by their names.
    """
    live = client.get(GATEWAY, gateway, namespace) or {}
    refs = [ref for text in backend_service_refs(live) if (ref := parse_ref(text)) is not None]
    if not refs and of_object(live, "Programmed").true:
        return listed(namespace, cluster_mark(live))
    return [ref for ref in refs if not ref.is_default]


def view_of(client: KubeClient | None, namespace: str) -> ClusterView:
    """What the cluster can say about endpoints; nothing, where it cannot be asked."""
    if client is None or not namespace:
        return ClusterView()
    try:
        return ClusterView(client.objects(POD, namespace), client.objects(HEALTH_CHECK_POLICY, namespace))
    except KubernetesError:
        return ClusterView()


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    named, region = params["backend_services"], params["region"] or ""
    gateways = params["gateways"] or ([params["gateway"]] if params["gateway"] else [])
    client = client_from_params(params) if gateways else None
    if named and not region:
        raise ConfigurationError(
            "Services are named without their region.", code="REGION_MISSING", remedy="Give region."
        )

    def listed(namespace: str, mark: str) -> list[ServiceRef]:
        if not region:
            return []
        names = backend_names(session, params["project"], region, namespace, mark)
        return [ServiceRef(name, region, params["project"]) for name in names]

    def read() -> list[BackendHealth]:
        if client is None:
            return backend_health(session, params["project"], region, named)
        found_refs = [services_of(client, name, params["namespace"], listed) for name in gateways]
        if not all(found_refs):  # one that names nothing yet must not hide behind the others
            return []
        refs = list(dict.fromkeys(ref for some in found_refs for ref in some))
        found: list[BackendHealth] = []
        for place in sorted({region or ref.region for ref in refs if ref.region}):
            names = [ref.name for ref in refs if (region or ref.region) == place]
            found += backend_health(session, params["project"], place, names)
        return found

    if params["wait"] and not module.check_mode:
        backends = poll(
            read,
            lambda: view_of(client, params["namespace"] or ""),
            min_endpoints=params["min_endpoints"],
            timeout=params["timeout"],
            interval=params["interval"],
        )
    else:
        backends = read()
    return {
        "changed": False,
        "backends": [backend.as_result() for backend in backends],
        "healthy": bool(backends) and all(enough(backend, params["min_endpoints"]) for backend in backends),
        "detail": say(backends, params["min_endpoints"]),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            **kube_argument_spec(
                region={"type": "str"},
                gateway={"type": "str"},
                gateways={"type": "list", "elements": "str"},
                namespace={"type": "str"},
                backend_services={"type": "list", "elements": "str"},
                min_endpoints={"type": "int", "default": 1},
                wait={"type": "bool", "default": True},
                timeout={"type": "int", "default": 600},
                interval={"type": "float", "default": 1},
            )
        ),
        required_one_of=[("gateway", "gateways", "backend_services")],
        mutually_exclusive=[("gateway", "gateways", "backend_services")],
        required_by={"gateway": ("namespace",), "gateways": ("namespace",)},
        supports_check_mode=True,
    )
    run_with_session(module, lambda session: work(module, session))


if __name__ == "__main__":
    main()
