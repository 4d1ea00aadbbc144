# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the GKE Gateway controller's words mean. Pure: a message in, a problem out.

The texts are the controller's own (conditions and Warning events of source sc-gateway-controller); facts from recorded
dumps of GKE Gateways and the issues quoted in the collection's documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem


@dataclass(frozen=True)
class Cause:
    """One recognisable cause. fatal: somebody must act, the controller's own retries will not heal it."""

    code: str
    pattern: str
    what: str
    remedy: str
    fatal: bool = True


CAUSES = (
    Cause(
        "PROXY_ONLY_SUBNET_MISSING",
        r"proxy-only subnet",
        "The Gateway's region has no active proxy-only subnet in the cluster's VPC.",
        "Run role llmd.gke.gcp_network (llmd_proxy_subnet), or: gcloud compute networks subnets create"
        " proxy-only-subnet --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE --region=REGION --network=NETWORK"
        " --range=192.168.0.0/23",
    ),
    Cause(
        "NETWORK_SERVICES_API_DISABLED",
        r"NetworkServices API is not enabled|networkservices\.googleapis\.com",
        "The Network Services API is off; the load balancer cannot call the endpoint picker without it.",
        "gcloud services enable networkservices.googleapis.com --project=PROJECT (or keep it in llmd_services), then"
        " wait a few minutes.",
    ),
    Cause(
        "ROUTE_BACKEND_NOT_FOUND",
        r"GWCER104|reference-not-found|extension service \S+ not found|InferencePool \S+ not found",
        "A route's backend, or the picker Service of its InferencePool, does not exist.",
        "Check that the pool's release is deployed in the route's namespace and that the backendRef names it with group"
        " inference.networking.k8s.io.",
        fatal=False,
    ),
    Cause(
        "QUOTA_EXCEEDED",
        r"QUOTA_EXCEEDED|Quota '[A-Z_]+' exceeded|quota exceeded",
        "A Google Cloud quota is used up.",
        "Free what is unused or ask for more quota; the message names the metric (IN_USE_ADDRESSES is the usual one).",
    ),
    Cause(
        "FIREWALL_DENIED",
        r"compute\.firewalls\.(create|update|delete)|firewall change required",
        "The controller may not write the firewall rules of the network (Shared VPC).",
        "In the host project allow TCP to the pods' ports from the proxy-only range, 35.191.0.0/16 and 130.211.0.0/22.",
    ),
    Cause(
        "GATEWAY_PERMISSION_DENIED",
        r"PERMISSION_DENIED|googleapi: Error 403|Required '[^']+' permission",
        "The GKE service agent lacks a permission in the project.",
        "Give service-PROJECT_NUMBER@container-engine-robot.iam.gserviceaccount.com the role"
        " roles/container.serviceAgent again.",
    ),
    Cause(
        "GATEWAY_ADDRESS_UNSUITABLE",
        r"unsupported address type|address .* (not found|already in use|is already being used)"
        r"|addresses/\S+' was not found|Specified IP address is in-use|address \"\S+\" is (IN|EX)TERNAL",
        "The Gateway asks for an address that it cannot have.",
        "Name a reserved regional address that is free (type NamedAddress), or leave the address out.",
    ),
    Cause(
        "GATEWAY_CERTIFICATE_UNSUITABLE",
        r"GWCER105",
        "A listener's certificate cannot be used.",
        "Check llmd_tls: the Secret must be of type kubernetes.io/tls in the Gateway's namespace and hold tls.crt and"
        " tls.key that belong together; certificates of Google Cloud must be in the Gateway's region.",
    ),
    Cause(
        "GATEWAY_INVALID",
        r"GWCER106",
        "The Gateway's own specification is refused.",
        "Read the controller's words above and correct the values of the infra release.",
    ),
    Cause(
        "GATEWAY_NOT_READY_YET",
        r"RESOURCE_NOT_READY|is not ready|deadline",
        "A part of the load balancer is still being made.",
        "Wait; run again with a longer timeout.",
        fatal=False,
    ),
)


def explain_message(message: str, where: str) -> Problem | None:
    """The cause that a controller message names; None if the words are unknown."""
    for cause in CAUSES:
        if re.search(cause.pattern, message, re.IGNORECASE):
            return Problem(cause.code, cause.what, message, cause.remedy, where, fatal=cause.fatal)
    return None
