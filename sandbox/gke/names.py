"""Names that GKE gives to what it makes: gkegw1-... parts of a load balancer, NEGs, shadow Services.

The hashes are ours (GKE's are not published); length, alphabet and order of the parts are GKE's (facts: names seen
in public dumps, e.g. gkegw1-on7z-llm-d-gaie-pattern1-ips-b68768ac-54321-0izcufp50m0a, exactly 63 characters).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_LIMIT = 63
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(text: str, length: int) -> str:
    """``length`` characters 0-9a-z that stand for ``text``."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 36)
        digits.append(_ALPHABET[rest])
    return "".join(digits)


def hexadecimal(text: str, length: int = 8) -> str:
    """``length`` hexadecimal characters that stand for ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def trim(parts: Sequence[str], limit: int) -> list[str]:
    """Shorten the longest parts until all of them together have at most ``limit`` characters."""
    lengths = [len(part) for part in parts]
    while sum(lengths) > limit:
        lengths[lengths.index(max(lengths))] -= 1
    return [part[:length].rstrip("-") for part, length in zip(parts, lengths, strict=True)]


def _joined(prefix: str, parts: Sequence[str], suffix: str) -> str:
    room = _LIMIT - len(prefix) - len(suffix) - 1 - len(parts)
    return "-".join([prefix, *trim(parts, room), suffix])


class Namer:
    """Names within one cluster; ``cluster`` is anything that is unique to it."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self.prefix = f"gkegw1-{base36(cluster, 4)}"
        self.neg_prefix = f"k8s1-{hexadecimal(cluster)}"

    def backend_service(self, klass: str, namespace: str, service: str, port: int) -> str:
        """Backend service (and its health check) of one Service port.

        Gateways of one class share it; another class has another balancing scheme and needs its own.
        """
        suffix = base36(f"{self._cluster}/{klass}/{namespace}/{service}/{port}", 12)
        return _joined(self.prefix, [namespace, service, str(port)], suffix)

    def gateway(self, klass: str, namespace: str, name: str, role: str) -> str:
        """Parts of one Gateway: the target proxy and URL map share a name, address and rule have their own."""
        suffix = base36(f"{self._cluster}/{klass}/{namespace}/{name}/{role}", 12)
        return _joined(self.prefix, [namespace, name], suffix)

    def firewall(self, network: str, scope: str) -> str:
        """The one firewall rule that all Gateways of a cluster and scope share."""
        room = _LIMIT - len(f"{self.prefix}-l7--{scope}")
        return f"{self.prefix}-l7-{trim([network], room)[0]}-{scope}"

    def network_endpoint_group(self, namespace: str, service: str, port: int) -> str:
        """NEG of a Service port; the same name in every zone."""
        return _joined(self.neg_prefix, [namespace, service, str(port)], hexadecimal(f"{namespace}/{service}/{port}"))


def pool_service(namespace: str, pool: str) -> str:
    """Headless Service that stands for an InferencePool: ``<pool>-ips-<8 hex>``."""
    suffix = f"-ips-{hexadecimal(f'{namespace}/{pool}')}"
    return pool[: _LIMIT - len(suffix)].rstrip("-") + suffix
