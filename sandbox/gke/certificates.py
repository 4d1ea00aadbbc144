"""Certificates of HTTPS listeners: what a Gateway refers to, found or refused.

GKE takes a Secret of type kubernetes.io/tls (``certificateRefs``), SSL certificates of the compute API (option
networking.gke.io/pre-shared-certs) and certificates of Certificate Manager (networking.gke.io/cert-manager-certs).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from sandbox.gke.compute import Json
from sandbox.gke.kubeapi import Object
from sandbox.gke.model import Certificate, Problem
from sandbox.gke.snapshot import Snapshot

PRE_SHARED = "networking.gke.io/pre-shared-certs"
CERT_MANAGER = "networking.gke.io/cert-manager-certs"
TLS_SECRET = "kubernetes.io/tls"
REASON = "InvalidCertificateRef"

FindShared = Callable[[str], Json | None]  # an SSL certificate of the compute API by name


@dataclass(frozen=True)
class Found:
    """Certificates by listener name, and the first reason why a listener cannot have its own."""

    by_listener: Mapping[str, tuple[Certificate, ...]] = field(default_factory=dict)
    problem: Problem | None = None


class Refused(Exception):
    """A listener's certificate cannot be used."""


def of_gateway(snapshot: Snapshot, gateway: Object, shared: FindShared) -> Found:
    """The certificates of every HTTPS listener."""
    found: dict[str, tuple[Certificate, ...]] = {}
    for listener in gateway["spec"].get("listeners") or []:
        if listener.get("protocol") != "HTTPS":
            continue
        try:
            found[listener["name"]] = _of_listener(snapshot, gateway, listener.get("tls") or {}, shared)
        except Refused as refused:
            message = f'Error GWCER105: Listener "{listener["name"]}" is invalid, err: {refused}.'
            return Found(found, Problem("translate", message, REASON))
    return Found(found)


def _of_listener(
    snapshot: Snapshot, gateway: Object, tls: Mapping[str, Any], shared: FindShared
) -> tuple[Certificate, ...]:
    if (tls.get("mode") or "Terminate") != "Terminate":
        raise Refused(f"TLS mode {tls['mode']} is not supported")
    options = tls.get("options") or {}
    unknown = sorted(set(options) - {PRE_SHARED, CERT_MANAGER})
    if unknown:
        raise Refused(f"invalid TLS option key {unknown[0]}")
    if options.get(CERT_MANAGER):
        raise Refused("Certificate Manager is not modelled in the sandbox")
    namespace = gateway["metadata"]["namespace"]
    found = [_from_secret(snapshot, namespace, ref) for ref in tls.get("certificateRefs") or []]
    names = [name.strip() for name in str(options.get(PRE_SHARED) or "").split(",") if name.strip()]
    found += [_from_compute(name, shared(name)) for name in names]
    if not found:
        raise Refused("no certificate is specified")
    return tuple(found)


def _from_secret(snapshot: Snapshot, namespace: str, ref: Mapping[str, Any]) -> Certificate:
    group, kind = ref.get("group") or "", ref.get("kind") or "Secret"
    if (group, kind) != ("", "Secret"):
        said = f"You specified {{Group: {group}, Kind: {kind}}} in the certificate reference"
        raise Refused(f"{said}, {{Group: , Kind: Secret}} are the supported values")
    where = str(ref.get("namespace") or namespace)
    if where != namespace:
        raise Refused(f"Secret {where}/{ref['name']} is in another namespace")
    secret = snapshot.find("Secret", where, str(ref["name"]))
    if secret is None:
        raise Refused(f"Secret {where}/{ref['name']} of type {TLS_SECRET} not found")
    data = secret.get("data") or {}
    try:
        chain, key = (base64.b64decode(data[name], validate=True).decode() for name in ("tls.crt", "tls.key"))
    except (KeyError, binascii.Error, UnicodeDecodeError):
        raise Refused(f"Secret {where}/{ref['name']} has no usable tls.crt and tls.key") from None
    return certificate(str(ref["name"]), chain, key, made_here=True)


def _from_compute(name: str, found: Json | None) -> Certificate:
    if found is None:
        raise Refused(f"SSL certificate {name} not found")
    material = found.get("selfManaged") or found
    chain, key = str(material.get("certificate") or ""), str(found.get("privateKey") or "")
    return certificate(name, chain, key)


def certificate(name: str, chain: str, key: str, *, made_here: bool = False) -> Certificate:
    """Refuses what is no PEM, and a key of another certificate: Envoy would refuse all listeners with it."""
    if not _belong_together(chain, key):
        raise Refused(f"certificate {name} is not valid: certificate and private key must be PEM and belong together")
    fingerprint = hashlib.sha256((chain + key).encode()).hexdigest()[:16]
    return Certificate(name, fingerprint, made_here, chain, key)


@functools.lru_cache(maxsize=64)
def _belong_together(chain: str, key: str) -> bool:
    try:
        shown = x509.load_pem_x509_certificates(chain.encode())[0].public_key()
        held = load_pem_private_key(key.encode(), None).public_key()
    except (ValueError, TypeError, IndexError):
        return False
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return shown.public_bytes(*form) == held.public_bytes(*form)
