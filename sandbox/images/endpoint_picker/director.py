"""From a request body to a destination: checks, admission, scheduling. Refusals in the inference extension's words."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.images.endpoint_picker.config import Configuration
from sandbox.images.endpoint_picker.datastore import Datastore
from sandbox.images.endpoint_picker.metrics import Metrics
from sandbox.images.endpoint_picker.plugins.base import Endpoint, Request
from sandbox.images.endpoint_picker.scheduler import Scheduler, SchedulingError, saturated
from sandbox.images.endpoint_picker.scrape import Scraper

OBJECTIVE = "x-gateway-inference-objective"
STATUS = {"BadRequest": 400, "InferencePoolResourceExhausted": 429, "ServiceUnavailable": 503, "Internal": 500}


class Refusal(Exception):
    """A request that the gateway answers itself."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"inference gateway: {code} - {message}")
        self.code = code
        self.status = STATUS[code]


@dataclass
class Decision:
    """Where a request goes. ``body`` is what the model server gets; ``model`` is empty for requests without a body."""

    endpoint: Endpoint
    model: str = ""
    body: bytes = b""
    headers: Mapping[str, str] | None = None


class Director:
    """One for the process."""

    def __init__(
        self,
        configuration: Configuration,
        datastore: Datastore,
        scraper: Scraper,
        metrics: Metrics,
    ) -> None:
        self._configuration = configuration
        self._datastore = datastore
        self._scraper = scraper
        self._metrics = metrics
        self._scheduler = Scheduler(configuration, metrics)

    def without_body(self) -> Decision:
        """GETs and empty POSTs: any ready pod. Raises Refusal."""
        self._scraper.request_seen()
        endpoint = self._datastore.anyone()
        if endpoint is None:
            raise Refusal("Internal", "no pods available in datastore")
        return Decision(endpoint)

    def with_body(self, headers: Mapping[str, str], raw: bytes) -> Decision:
        """Choose by the plugins. Raises Refusal."""
        self._scraper.request_seen()
        body = _body(raw)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise Refusal("BadRequest", "model not found in request body")
        request = Request(
            identity=headers.get("x-request-id") or uuid.uuid4().hex,
            model=model,
            prompt=_prompt(body, headers.get(":path", "")),
            headers=headers,
            body=body,
        )
        endpoints = self._datastore.endpoints()
        if not endpoints:
            raise Refusal("ServiceUnavailable", "failed to find candidate pods for serving the request")
        self._admit(headers, endpoints)
        self._scheduler.forget(endpoints)
        try:
            result, extra = self._scheduler.schedule(request, endpoints)
        except SchedulingError as error:
            raise Refusal("InferencePoolResourceExhausted", f"failed to find target pod: {error}") from None
        return Decision(result.target, model, json.dumps(body, separators=(",", ":")).encode(), extra)

    def _admit(self, headers: Mapping[str, str], endpoints: list[Endpoint]) -> None:
        """Only sheddable requests (an InferenceObjective of negative priority) are turned away by a full pool."""
        priority = self._datastore.objectives.get(headers.get(OBJECTIVE, ""), 0)
        if priority >= 0:
            return
        limits, interval = self._configuration.saturation, self._scraper.interval
        if saturated(endpoints, limits, now=time.monotonic(), interval=interval):
            raise Refusal("InferencePoolResourceExhausted", "system saturated, sheddable request dropped")


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("BadRequest", "Error unmarshaling request body")
    return body


def _prompt(body: Mapping[str, Any], path: str) -> str:
    """The text that prefixes are compared by: the prompt, or the messages as JSON."""
    if "/chat/completions" in path:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Refusal("BadRequest", "invalid chat completions request: must have valid messages field")
        return json.dumps(messages, separators=(",", ":"), ensure_ascii=False)
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise Refusal("BadRequest", "invalid completions request: must have prompt field")
    return prompt
