# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that an endpoint answers, and that its answers come through the endpoint picker.

A 200 on GET proves little: body-less requests go to any pod. What counts is a POST whose answer carries the picker's
header and which moved the picker's own counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer, went_through_picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Send
from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import compare_scorers
from ansible_collections.llmd.gke.plugins.module_utils.inference.picker import Picker
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, report_progress

CHECKS = ("health", "models", "completions", "chat", "picker_header", "picker_counter", "scorers")
PICKER_CHECKS = frozenset({"picker_counter", "scorers"})


@dataclass(frozen=True)
class Plan:
    """What to probe. Times in seconds; ``timeout`` is shared by all checks while a load balancer still comes up."""

    model: str
    checks: tuple[str, ...] = CHECKS
    timeout: float = 300
    interval: float = 2
    request_timeout: float = 60
    prompt: str = "Kubernetes is"
    max_tokens: int = 16
    counter: str = ""
    header: str = ""
    scorers: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """One check. ``status``: the HTTP status behind it, 0 where none is; ``code``: the error's code if not ok."""

    name: str
    ok: bool
    detail: str
    seconds: float = 0.0
    status: int = 0
    code: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def _no_picker(checks: Iterable[str]) -> ConfigurationError:
    return ConfigurationError(
        f"The checks {', '.join(sorted(PICKER_CHECKS & set(checks)))} need the picker.",
        code="PICKER_NOT_GIVEN",
        remedy="Give namespace and pool, or leave those checks out.",
    )


class Probe:
    """One run of checks against one endpoint."""

    def __init__(
        self,
        send: Send,
        plan: Plan,
        picker: Picker | None = None,
        clock: Clock | None = None,
        progress: Callable[[str], Any] = report_progress,
    ) -> None:
        if picker is None and PICKER_CHECKS & set(plan.checks):
            raise _no_picker(plan.checks)
        self.send = send
        self.plan = plan
        self.picker = picker
        self.clock: Clock = clock or SystemClock()
        self.progress = progress
        self.deadline = self.clock.now() + plan.timeout
        self.samples: dict[str, Any] = {}
        self.posts = 0
        self.last_post: Answer | None = None

    def run(self) -> list[Result]:
        """All checks in order; a failed one does not stop the others, a deadline passed leaves each one try."""
        before = self._counter() if "picker_counter" in self.plan.checks else None
        steps: dict[str, Callable[[], Result]] = {
            "health": self._health,
            "models": self._models,
            "completions": self._completions,
            "chat": self._chat,
            "picker_header": lambda: self._picker_header(before),
            "picker_counter": lambda: self._picker_counter(before),
            "scorers": self._scorers,
        }
        results = []
        for name in CHECKS:
            if name in self.plan.checks:
                results.append(steps[name]())
                self.progress(f"probe {name}: {'ok' if results[-1].ok else results[-1].detail[:120]}")
        return results

    def _ask(self, method: str, path: str, document: dict[str, Any] | None = None) -> Answer:
        """Send, and again while the answer is one of a load balancer or pod that is still coming up."""
        reported = ""
        while True:
            answer = self.send(method, path, document, timeout=self.plan.request_timeout)
            if document is not None:
                self.posts += int(answer.status == 200)
                self.last_post = answer
            cause = explain_answer(answer)
            if cause is None or not cause.transient or self.clock.now() >= self.deadline:
                return answer
            if cause.code != reported:
                self.progress(f"{method} {path}: {cause.what}")
                reported = cause.code
            self.clock.sleep(min(self.plan.interval, max(0.0, self.deadline - self.clock.now())))

    def _failed(self, name: str, answer: Answer) -> Result | None:
        cause = explain_answer(answer)
        if cause is None:
            return None
        return Result(name, False, cause.what, answer.seconds, answer.status, cause.code, cause.remedy)

    def _health(self) -> Result:
        answer = self._ask("GET", "/health")
        return self._failed("health", answer) or Result("health", True, "200", answer.seconds, 200)

    def _models(self) -> Result:
        answer = self._ask("GET", "/v1/models")
        failed = self._failed("models", answer)
        if failed:
            return failed
        served = [str(entry.get("id")) for entry in answer.document().get("data") or [] if isinstance(entry, dict)]
        self.samples["models"] = served
        if self.plan.model in served:
            return Result("models", True, f"serves {self.plan.model}", answer.seconds, 200)
        return Result(
            "models",
            False,
            f"{self.plan.model} is not served; the endpoint names {', '.join(served) or 'no model'}",
            answer.seconds,
            200,
            "MODEL_UNKNOWN",
            "Compare llmd_model with the list at /v1/models.",
        )

    def _completions(self) -> Result:
        document = {"model": self.plan.model, "prompt": self.plan.prompt, "max_tokens": self.plan.max_tokens}
        answer = self._ask("POST", "/v1/completions", document)
        return self._failed("completions", answer) or self._generated("completions", answer)

    def _chat(self) -> Result:
        # user role only: Gemma's template refuses a system message
        document = {
            "model": self.plan.model,
            "messages": [{"role": "user", "content": self.plan.prompt}],
            "max_tokens": self.plan.max_tokens,
        }
        answer = self._ask("POST", "/v1/chat/completions", document)
        return self._failed("chat", answer) or self._generated("chat", answer)

    def _generated(self, name: str, answer: Answer) -> Result:
        choices = answer.document().get("choices") or [{}]
        choice = choices[0] if isinstance(choices[0], dict) else {}
        text = str(choice.get("text") or (choice.get("message") or {}).get("content") or "")
        tokens = int((answer.document().get("usage") or {}).get("completion_tokens") or 0)
        self.samples[name] = {"text": text, "usage": answer.document().get("usage") or {}}
        if text and tokens > 0:
            return Result(name, True, f"{tokens} tokens: {text.strip()[:80]}", answer.seconds, 200)
        missing = "text" if not text else "usage.completion_tokens"
        return Result(
            name,
            False,
            f"the answer has no {missing}",
            answer.seconds,
            200,
            "UNEXPECTED_ANSWER",
            "Read the sample in the result; the endpoint may not be a vLLM server.",
        )

    def _picker_header(self, before: float | None = None) -> Result:
        if self.last_post is None or self.last_post.status == 0:
            self._completions()
        answer = self.last_post or Answer(0)
        if went_through_picker(answer, self.plan.header):
            return Result("picker_header", True, f"{self.plan.header}: true on a POST", answer.seconds, answer.status)
        counted = None if before is None else self._counter()
        if counted is not None and before is not None and self.posts and counted - before >= self.posts:
            said = f"not on the answer: the load balancer does not pass {self.plan.header} on; the picker's counter"
            return Result(
                "picker_header", True, f"{said} shows {self.posts} POSTs instead", answer.seconds, answer.status
            )
        return Result(
            "picker_header",
            False,
            f"the answer to a POST ({answer.status}) has no {self.plan.header}: it did not pass the endpoint picker",
            answer.seconds,
            answer.status,
            "PICKER_BYPASSED",
            "Check that the HTTPRoute's backend is the InferencePool and that failureMode did not let requests past a"
            " picker that is down.",
        )

    @property
    def _chooser(self) -> Picker:
        """The picker, for checks that are not made without one."""
        if self.picker is None:
            raise _no_picker(self.plan.checks)
        return self.picker

    def _counter(self) -> float | None:
        try:
            return self.picker.count(self.plan.counter, self.plan.model) if self.picker else None
        except InferenceError:
            return None  # said again, with its reason, by the check itself

    def _picker_counter(self, before: float | None) -> Result:
        if self.posts == 0:
            self._completions()
        try:
            after = self._chooser.count(self.plan.counter, self.plan.model)
        except InferenceError as error:
            return Result("picker_counter", False, f"{error.what} {error.why}", code=error.code, remedy=error.remedy)
        moved = after - (before or 0.0)
        self.samples["picker_counter"] = {"before": before, "after": after, "posts": self.posts}
        if before is None:
            detail = f"{self.plan.counter} could not be read before the requests, now it is {after:g}"
        else:
            detail = f"{self.plan.counter} moved by {moved:g} with {self.posts} POSTs"
        if before is not None and self.posts and moved >= self.posts:
            return Result("picker_counter", True, detail)
        return Result(
            "picker_counter",
            False,
            detail,
            code="PICKER_COUNTER_STILL",
            remedy="The requests did not pass this picker: check the pool's endpointPickerRef, and that its pod was not"
            " restarted in between.",
        )

    def _scorers(self) -> Result:
        try:
            found, source = self._chooser.scorers()
        except InferenceError as error:
            return Result("scorers", False, f"{error.what} {error.why}", code=error.code, remedy=error.remedy)
        self.samples["scorers"] = found
        wrong = compare_scorers(self.plan.scorers, found)
        if not wrong and found:
            said = ", ".join(f"{name} {weight:g}" for name, weight in (self.plan.scorers or found).items())
            return Result("scorers", True, f"{said} ({source})")
        return Result(
            "scorers",
            False,
            "; ".join(wrong) or "the picker's start-up log names no scorers",
            code="SCORERS_WRONG",
            remedy="Compare the pool release's pluginsConfigFile with the profile.",
        )
