"""A fake Google at the transport, a clock that does not really sleep, and modules run to their very end."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

if TYPE_CHECKING:  # pytest-ansible makes the collection importable only after the first conftest files are read
    from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
    from ansible_collections.llmd.gke.plugins.module_utils.gcp.transport import Reply

GCP = "ansible_collections.llmd.gke.plugins.module_utils.gcp"

Answer = Any  # dict (200), Reply, Exception, or a function of the request that returns one of these


class FakeClock:
    """Time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@dataclass
class Request:
    verb: str
    url: str
    body: Any


@dataclass
class Rule:
    verb: str
    pattern: re.Pattern[str]
    answers: list[Answer]


@dataclass
class FakeGoogle:
    """Scripted answers by verb and URL; the last one of a rule repeats, later rules win."""

    clock: FakeClock = field(default_factory=FakeClock)
    rules: list[Rule] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    token: Any = None

    def on(self, verb: str, pattern: str, *answers: Answer) -> None:
        self.rules.insert(0, Rule(verb, re.compile(pattern), list(answers)))

    def send(self, verb: str, url: str, *, body: str | None, timeout: float) -> Reply:
        request = Request(verb, url, None if body is None else json.loads(body))
        self.requests.append(request)
        for rule in self.rules:
            if rule.verb == verb and rule.pattern.search(url):
                answer = rule.answers.pop(0) if len(rule.answers) > 1 else rule.answers[0]
                return self._reply(answer(request) if callable(answer) else answer)
        raise AssertionError(f"nobody expected {verb} {url} {body}")

    @staticmethod
    def _reply(answer: Answer) -> Reply:
        from ansible_collections.llmd.gke.plugins.module_utils.gcp.transport import Reply

        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(200, json.dumps(answer))

    def access_token(self, *, min_seconds: float = 0) -> Any:
        from ansible_collections.llmd.gke.plugins.module_utils.gcp.credentials import AccessToken

        if isinstance(self.token, Exception):
            raise self.token
        return self.token or AccessToken("ya29.secret", "2026-11-23T16:00:00Z")

    def session(self, **options: Any) -> GoogleSession:
        from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession

        options.setdefault("clock", self.clock)
        options.setdefault("jitter", lambda: 1.0)
        return GoogleSession(self, project="my-project", **options)

    def writes(self) -> list[Request]:
        """Requests that change something (waits and questions are POSTs too)."""
        harmless = ("/wait", ":testIamPermissions", "/getHealth")
        return [r for r in self.requests if r.verb != "GET" and not r.url.split("?")[0].endswith(harmless)]


def google_error(status: int, message: str, *, canonical: str = "", reason: str = "", details: Any = None) -> Reply:
    """An error body in the form of Google's JSON APIs."""
    from ansible_collections.llmd.gke.plugins.module_utils.gcp.transport import Reply

    error: dict[str, Any] = {"code": status, "message": message}
    if canonical:
        error["status"] = canonical
    if reason:
        error["errors"] = [{"domain": "global", "reason": reason, "message": message}]
    if details:
        error["details"] = details
    return Reply(status, json.dumps({"error": error}))


def service_disabled(service: str = "compute.googleapis.com") -> Reply:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": service, "consumer": "projects/123456789012"},
    }
    message = (
        f"API has not been used in project 123456789012 before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/{service}/overview?project=123456789012 then retry."
    )
    return google_error(403, message, canonical="PERMISSION_DENIED", reason="accessNotConfigured", details=[info])


@pytest.fixture
def error_reply() -> Callable[..., Reply]:
    return google_error


@pytest.fixture
def disabled_reply() -> Callable[..., Reply]:
    return service_disabled


@pytest.fixture
def google() -> FakeGoogle:
    return FakeGoogle()


@pytest.fixture
def run_module(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Run a module's main() against the fake Google; its own JSON comes back, as a person would get it."""

    def open_session(params: Any, *, deadline: float | None = None) -> GoogleSession:
        return google.session(deadline=deadline)

    monkeypatch.setattr(importlib.import_module(f"{GCP}.arguments"), "open_session", open_session)

    # Inside pytest Ansible takes this process for a controller and would show warnings instead of returning them.
    warned: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, warning, **_unused: warned.append(warning))

    def run(name: str, /, *, check: bool = False, **options: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.llmd.gke.plugins.modules.{name}")
        arguments_given = {"project": "my-project", "_ansible_check_mode": check, "_ansible_diff": True, **options}
        with patch_module_args(arguments_given), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capfd.readouterr().out)
        return {**result, "warnings": list(warned)}

    return run
