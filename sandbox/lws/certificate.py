"""The webhooks' certificate: made once, kept in a Secret, and its authority told to the webhook configurations."""

from __future__ import annotations

import base64
import datetime
import os
import ssl
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.gke.kubeapi import ApiError, Client, Object, Resource

SECRET = Resource("", "v1", "secrets", "Secret")
_GROUP = "admissionregistration.k8s.io"
CONFIGURATIONS = (
    (
        Resource(_GROUP, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False),
        "lws-mutating-webhook-configuration",
    ),
    (
        Resource(_GROUP, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", namespaced=False),
        "lws-validating-webhook-configuration",
    ),
)


@dataclass(frozen=True)
class Pair:
    """PEM key and certificate. The certificate is its own authority."""

    key: bytes
    certificate: bytes

    def context(self) -> ssl.SSLContext:
        """For a server. The pair goes through memory, as the container's file system is read-only."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        file = os.memfd_create("pair")
        try:
            os.write(file, self.key + self.certificate)
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context


def make(service: str, namespace: str) -> Pair:
    """A fresh pair for a Service's names."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local"]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(private, certificate.public_bytes(serialization.Encoding.PEM))


def ensure(client: Client, namespace: str, secret: str, service: str) -> Pair:
    """The pair of the Secret; a new one is put there where it has none. Raises ApiError."""
    while True:
        found = client.get(SECRET, secret, namespace)
        if found is None:
            raise ApiError(404, "NotFound", f"Secret {namespace}/{secret} is missing: the chart makes it")
        data = found.get("data") or {}
        if data.get("tls.key") and data.get("tls.crt"):
            return Pair(base64.b64decode(data["tls.key"]), base64.b64decode(data["tls.crt"]))
        made = make(service, namespace)
        fields = {"tls.key": made.key, "tls.crt": made.certificate, "ca.crt": made.certificate}
        found["data"] = {**data, **{name: base64.b64encode(value).decode() for name, value in fields.items()}}
        try:
            client.call("PUT", SECRET.path(namespace, secret), body=found)
            return made
        except ApiError as error:
            if error.code != 409:  # another replica was faster
                raise


def trust(client: Client, pair: Pair) -> None:
    """Have the API server trust the webhooks' certificate."""
    bundle = base64.b64encode(pair.certificate).decode()
    for resource, name in CONFIGURATIONS:
        found = client.get(resource, name)
        if found is None:
            continue
        hooks: list[Object] = found.get("webhooks") or []
        if any(hook["clientConfig"].get("caBundle") != bundle for hook in hooks):
            for hook in hooks:
                hook["clientConfig"]["caBundle"] = bundle
            client.call("PUT", resource.path(None, name), body=found)
