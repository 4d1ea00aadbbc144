from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.gke import certificates
from sandbox.gke import gateway as decisions
from sandbox.gke.gateway import Progress
from tests.authority import Authority

Object = dict[str, Any]
Snap = Callable[..., Any]


AUTHORITY = Authority()
PAIR, OTHER = AUTHORITY.sign("llm.example.com"), AUTHORITY.sign("other.example.com")


def secret(make: Callable[..., Object], chain: str = PAIR.certificate, key: str = PAIR.key) -> Object:
    data = {"tls.crt": base64.b64encode(chain.encode()).decode(), "tls.key": base64.b64encode(key.encode()).decode()}
    return make("Secret", "tls", data=data)


def https(gateway: Object, **tls: Any) -> Object:
    tls = tls or {"certificateRefs": [{"name": "tls"}]}
    gateway["spec"]["listeners"].append({"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls})
    return gateway


def test_a_secret_is_found_and_its_key_never_shown(make: Callable[..., Object], snap: Snap, gateway: Object) -> None:
    found = certificates.of_gateway(snap(secret(make)), https(gateway), lambda name: None)
    assert found.problem is None
    (shown,) = found.by_listener["https"]
    assert (shown.name, shown.made_here, shown.key) == ("tls", True, PAIR.key)
    assert "PRIVATE" not in repr(shown)
    renewed = certificates.of_gateway(
        snap(secret(make, OTHER.certificate, OTHER.key)), gateway, lambda name: None
    ).by_listener["https"][0]
    assert renewed.fingerprint != shown.fingerprint  # by which the controller notices


def test_a_certificate_of_the_compute_api(snap: Snap, gateway: Object) -> None:
    stored = {"certificate": PAIR.certificate, "privateKey": PAIR.key}
    gateway = https(gateway, options={certificates.PRE_SHARED: "mine"})
    found = certificates.of_gateway(snap(), gateway, {"mine": stored}.get)
    assert found.by_listener["https"][0].made_here is False


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"certificateRefs": [{"name": "nobody"}]}, "Secret llm-d/nobody of type kubernetes.io/tls not found"),
        (
            {"certificateRefs": [{"group": "networking.gke.io", "kind": "ManagedCertificate", "name": "x"}]},
            "{Group: , Kind: Secret} are the supported values",
        ),
        ({"certificateRefs": [{"name": "tls", "namespace": "other"}]}, "in another namespace"),
        ({"options": {"who.knows/this": "x"}}, "invalid TLS option key who.knows/this"),
        ({"options": {certificates.PRE_SHARED: "nobody"}}, "SSL certificate nobody not found"),
        ({"options": {certificates.CERT_MANAGER: "x"}}, "not modelled"),
        ({"mode": "Passthrough", "certificateRefs": [{"name": "tls"}]}, "Passthrough is not supported"),
    ],
)
def test_what_a_listener_cannot_have(
    make: Callable[..., Object], snap: Snap, gateway: Object, tls: dict[str, Any], words: str
) -> None:
    found = certificates.of_gateway(snap(secret(make)), https(gateway, **tls), lambda name: None)
    assert found.problem is not None
    assert found.problem.message.startswith('Error GWCER105: Listener "https" is invalid, err: ')
    assert words in found.problem.message


def test_a_key_of_another_certificate_is_refused_before_envoy_sees_it(
    make: Callable[..., Object], snap: Snap, gateway: Object
) -> None:
    found = certificates.of_gateway(snap(secret(make, key=OTHER.key)), https(gateway), lambda name: None)
    assert found.problem is not None
    assert "belong together" in found.problem.message


def test_the_listeners_condition_says_so(snap: Snap, gateway: Object) -> None:
    gateway = https(gateway)
    problem = certificates.of_gateway(snap(), gateway, lambda name: None).problem
    problem = decisions.translate_problem(gateway, [], lambda name: "", problem)
    status = decisions.status(gateway, Progress(problem=problem), [], "")
    by_listener = {
        item["name"]: {each["type"]: (each["status"], each["reason"]) for each in item["conditions"]}
        for item in status["listeners"]
    }
    assert by_listener["https"]["ResolvedRefs"] == ("False", "InvalidCertificateRef")
    assert by_listener["default"]["ResolvedRefs"] == ("True", "ResolvedRefs")
