"""Kubernetes' token webhook: says which user and groups a Google access token is inside a cluster.

GKE names the user by e-mail when the token has the scope userinfo.email and by number when it has not, and grants by
IAM; the groups ``gke:roles/container.*`` stand for the latter (the cluster binds them).
"""

from __future__ import annotations

from typing import Any

from sandbox.gcp import roles
from sandbox.gcp.identity import USERINFO_EMAIL
from sandbox.gcp.world import World

Json = dict[str, Any]


def review(world: World, key: str, request: Json) -> Json:
    """Answer a TokenReview of the cluster ``key``; the API version is echoed."""
    answer: Json = {"apiVersion": request.get("apiVersion", "authentication.k8s.io/v1"), "kind": "TokenReview"}
    token = str(request.get("spec", {}).get("token", ""))
    found = world.accounts.token(token)
    if found is None:
        return answer | {"status": {"authenticated": False, "error": "unknown token"}}
    if world.accounts.expired(found):
        return answer | {"status": {"authenticated": False, "error": "token has expired"}}
    identity = world.identity_of(found)
    user: Json = {
        "username": identity.email if USERINFO_EMAIL in identity.scopes else identity.unique_id,
        "uid": identity.unique_id,
        "groups": roles.cluster_groups(identity.roles),
        "extra": {"user-assertion.cloud.google.com": ["sandbox"]},
    }
    return answer | {"status": {"authenticated": True, "user": user}}
