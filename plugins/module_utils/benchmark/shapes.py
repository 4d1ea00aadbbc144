# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of the benchmark hand to each other. Times are seconds, time points are of one monotonic clock."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

MAX_REQUESTS = 1_000_000
MAX_DURATION = 86_400.0
MAX_CONCURRENCY = 4_096
MAX_RATE = 10_000.0


@dataclass(frozen=True)
class Target:
    """Where load goes. ``label`` names it in the report; ``host_header`` is for routes bound to a hostname."""

    label: str
    scheme: str
    host: str
    port: int
    prefix: str = ""
    host_header: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    verify: bool = True
    ca_file: str = ""

    @classmethod
    def parse(cls, base_url: str, label: str, **options: Any) -> Target:
        """From "http://203.0.113.7", "https://[2001:db8::1]:8443/prefix". Raises ConfigurationError."""
        try:
            parts = urlsplit(base_url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"{base_url!r} is no address to send requests to.",
                code="BASE_URL_INVALID",
                remedy="Give http://ADDRESS, https://NAME or http://[IPv6]:PORT; the path of the API is added by us.",
            )
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(label, parts.scheme, parts.hostname, port, prefix, **options)

    @property
    def url(self) -> str:
        """The address as a person would write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{host}{'' if self.port == usual else f':{self.port}'}{self.prefix}"

    @property
    def authority(self) -> str:
        """The Host header."""
        return self.host_header or self.url.split("://", 1)[1].removesuffix(self.prefix)

    def tls(self) -> ssl.SSLContext | None:
        """The TLS settings, None for plain HTTP. Raises ConfigurationError CA_FILE_INVALID."""
        if self.scheme != "https":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{self.ca_file} is no file of CA certificates.",
                code="CA_FILE_INVALID",
                why=str(error),
                remedy="Give a PEM file.",
            ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(slots=True)
class Record:
    """One request, as measured. Time points are seconds of the run's clock; ``cause`` is empty for a success.

    intended: when it should have been sent. sent: when its first byte was handed to the socket of an open connection.
    first, last: arrival of the first and last piece of generated text. end: arrival of the end of the answer, or the
    failure. output_tokens comes from the server's ``usage``, else from counting pieces (``counted``).
    """

    index: int
    target: str
    level: float
    phase: str
    intended: float
    sent: float = 0.0
    first: float | None = None
    last: float | None = None
    end: float = 0.0
    connect: float | None = None
    status: int = 0
    cause: str = ""
    detail: str = ""
    prompt_tokens: int | None = None
    output_tokens: int = 0
    pieces: int = 0
    counted: bool = False
    finish: str = ""
    retry_after: float | None = None
    reconnected: bool = False
    served_by: str = ""
    request_id: str = ""
    turn: int = 0
    block: int = -1

    @property
    def ok(self) -> bool:
        """Whether the whole answer arrived as promised."""
        return not self.cause

    @property
    def ttft(self) -> float | None:
        """Time to first token from the moment of sending (connection already open)."""
        return None if self.first is None else self.first - self.sent

    @property
    def ttft_intended(self) -> float | None:
        """Time to first token from the intended send time: includes waiting for a slot and connecting."""
        return None if self.first is None else self.first - self.intended

    @property
    def e2e(self) -> float | None:
        """Sending to last token."""
        return None if self.last is None else self.last - self.sent

    @property
    def e2e_intended(self) -> float | None:
        """Intended send time to last token."""
        return None if self.last is None else self.last - self.intended

    @property
    def itl(self) -> float | None:
        """Mean inter-token latency (last - first) / (n - 1); None for fewer than two tokens."""
        if self.first is None or self.last is None or self.output_tokens < 2 or self.pieces < 2:
            return None
        return (self.last - self.first) / (self.output_tokens - 1)

    def as_dict(self) -> dict[str, Any]:
        """For the request log: the fields and the figures derived from them."""
        content: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            content[name] = round(value, 6) if isinstance(value, float) else value
        for name in ("ttft", "ttft_intended", "e2e", "e2e_intended", "itl"):
            value = getattr(self, name)
            content[name] = None if value is None else round(value, 6)
        return content


@dataclass(frozen=True)
class Load:
    """One bounded load: it ends on count, time or error budget, whichever comes first.

    mode: closed (``level`` requests in flight) or open (``level`` requests a second, Poisson or constant arrivals).
    requests and duration bound the measured part; warm-up requests come before and do not count. Timeouts in seconds:
    first_token, stall (between pieces), whole request. error_budget: share of failures that ends the load, looked at
    after ``error_minimum`` requests. max_in_flight: bound of an open loop; what waits for it keeps its intended time.
    """

    mode: str = "closed"
    level: float = 4
    requests: int = 100
    duration: float = 120.0
    warmup: int = 4
    arrivals: str = "poisson"
    error_budget: float = 0.2
    error_minimum: int = 20
    request_timeout: float = 120.0
    first_token_timeout: float = 60.0
    stall_timeout: float = 30.0
    max_in_flight: int = 256
    seed: int = 1

    def check(self) -> None:
        """Refuse what is not bounded or not sensible. Raises ConfigurationError LOAD_INVALID."""
        limits: list[tuple[str, float, float, float]] = [
            ("requests", self.requests, 0, MAX_REQUESTS),
            ("duration", self.duration, 0.001, MAX_DURATION),
            ("warmup", self.warmup, 0, MAX_REQUESTS),
            ("error_budget", self.error_budget, 0, 1),
            ("request_timeout", self.request_timeout, 0.001, MAX_DURATION),
            ("first_token_timeout", self.first_token_timeout, 0.001, MAX_DURATION),
            ("stall_timeout", self.stall_timeout, 0.001, MAX_DURATION),
            ("max_in_flight", self.max_in_flight, 1, MAX_CONCURRENCY),
        ]
        if self.mode == "closed":
            limits.append(("concurrency", self.level, 1, MAX_CONCURRENCY))
        else:
            limits.append(("rate", self.level, 0.001, MAX_RATE))
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise ConfigurationError(
                    f"{name} is {value:g}; it must lie between {low:g} and {high:g}.",
                    code="LOAD_INVALID",
                    remedy="Every load is bounded by count and by time; give a value within the bounds.",
                )


@dataclass
class LoadResult:
    """What one load measured. stop_reason: count, time, error_budget or interrupted.

    edges: borders of the blocks that it was measured in, where it was (a comparison). unfinished: sent, but cut off by
    the end. unsent: due before the end, but not sent for want of a free slot.
    """

    load: Load
    target: str
    records: list[Record] = field(default_factory=list)
    warmup: list[Record] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0
    stop_reason: str = "count"
    unfinished: int = 0
    unsent: int = 0
    peak_in_flight: int = 0
    edges: list[float] = field(default_factory=list)

    @property
    def window(self) -> float:
        """Seconds from the first measured send to the last answer."""
        return max(0.0, self.ended - self.started)
