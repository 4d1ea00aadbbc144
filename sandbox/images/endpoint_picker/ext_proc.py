"""The exchange with Envoy, one gRPC stream a request, bodies in FULL_DUPLEX_STREAMED mode.

Nothing is answered before the whole request body came; then headers (with the destination) and body go back in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as rpc

from sandbox.images.endpoint_picker import messages
from sandbox.images.endpoint_picker.director import Decision, Director, Refusal
from sandbox.images.endpoint_picker.logs import Logger
from sandbox.images.endpoint_picker.metrics import Metrics

_LOG = Logger()
_LOGGED = ":path", "x-request-id"


class Exchange:
    """State of one request. ``answers`` takes one message of Envoy's and gives ours."""

    def __init__(self, director: Director, metrics: Metrics) -> None:
        self._director = director
        self._metrics = metrics
        self._received = time.monotonic()
        self._headers: dict[str, str] = {}
        self._request = bytearray()
        self._answered = False
        self._response = bytearray()
        self._response_size = 0
        self._streaming = False
        self._usage: dict[str, Any] = {}
        self._decision: Decision | None = None
        self.ended = False

    def answers(self, message: Any) -> Iterator[Any]:
        kind = message.WhichOneof("request")
        try:
            yield from getattr(self, f"_{kind}")(getattr(message, kind))
        except Refusal as refusal:
            shown = {name: self._headers.get(name) for name in _LOGGED}
            _LOG.error("Failed to process request", refusal, request=shown)
            self._metrics.errors.labels(*self._labels(), refusal.code).inc()
            self.ended = True
            yield messages.immediate(refusal.status, str(refusal))

    def close(self) -> None:
        """The stream is over, however it ended."""
        if self._decision is not None and self._decision.model:
            self._metrics.running.labels(self._decision.model).dec()
        self._decision = None

    def _labels(self) -> tuple[str, str]:
        model = self._decision.model if self._decision else ""
        return model, model

    def _request_headers(self, part: Any) -> Iterator[Any]:
        self._headers = messages.headers_of(part)
        if part.end_of_stream:
            decision = self._director.without_body()
            self._answered = True
            yield messages.request_headers(decision.endpoint.destination, 0, {})

    def _request_body(self, part: Any) -> Iterator[Any]:
        self._request += part.body
        if part.end_of_stream:
            yield from self._decide(end=True)

    def _request_trailers(self, part: Any) -> Iterator[Any]:
        if not self._answered:
            yield from self._decide(end=False)
        yield messages.request_trailers()

    def _decide(self, *, end: bool) -> Iterator[Any]:
        decision = self._director.with_body(self._headers, bytes(self._request))
        self._decision, self._answered = decision, True
        self._metrics.requests.labels(*self._labels()).inc()
        self._metrics.request_sizes.labels(*self._labels()).observe(len(self._request))
        self._metrics.running.labels(decision.model).inc()
        yield messages.request_headers(decision.endpoint.destination, len(decision.body), decision.headers or {})
        yield from messages.request_body(decision.body, end=end)

    def _response_headers(self, part: Any) -> Iterator[Any]:
        headers = messages.headers_of(part)
        self._streaming = "text/event-stream" in headers.get("content-type", "")
        yield messages.response_headers()

    def _response_body(self, part: Any) -> Iterator[Any]:
        self._response_size += len(part.body)
        if self._streaming:
            self._read_events(part.body)
        else:
            self._response += part.body
            if part.end_of_stream:
                self._read_whole()
        # Before the last answer: with that in its hands Envoy may end the stream, and nothing after it would be done.
        if part.end_of_stream:
            self._complete()
        if self._streaming:
            yield from messages.response_body(part.body, end=part.end_of_stream)
        elif part.end_of_stream:
            yield from messages.response_body(bytes(self._response), end=True)

    def _response_trailers(self, part: Any) -> Iterator[Any]:
        if not self._streaming and self._response:
            self._complete()
            yield from messages.response_body(bytes(self._response), end=False)
        yield messages.response_trailers()

    def _read_whole(self) -> None:
        try:
            body = json.loads(self._response)
        except ValueError:
            return
        if isinstance(body, dict) and isinstance(body.get("usage"), dict):
            self._usage = body["usage"]

    def _read_events(self, chunk: bytes) -> None:
        """Find the usage event. One that is cut in two by the transport is missed, as upstream misses it."""
        for line in chunk.split(b"\n"):
            if line.startswith(b"data: {") and b'"usage":{' in line:
                try:
                    self._usage = json.loads(line[6:])["usage"]
                except (ValueError, KeyError):
                    continue

    def _complete(self) -> None:
        labels = self._labels()
        if not labels[0]:
            return
        metrics, seconds = self._metrics, time.monotonic() - self._received
        metrics.duration.labels(*labels).observe(seconds)
        metrics.response_sizes.labels(*labels).observe(self._response_size)
        prompt = int(self._usage.get("prompt_tokens") or 0)
        completion = int(self._usage.get("completion_tokens") or 0)
        if prompt:
            metrics.input_tokens.labels(*labels).observe(prompt)
            details = self._usage.get("prompt_tokens_details") or {}
            metrics.cached_tokens.labels(*labels).observe(int(details.get("cached_tokens") or 0))
        if completion:
            metrics.output_tokens.labels(*labels).observe(completion)
            if self._streaming:
                metrics.per_output_token.labels(*labels).observe(seconds / completion)


class Servicer(rpc.ExternalProcessorServicer):  # type: ignore[misc]
    """envoy.service.ext_proc.v3.ExternalProcessor."""

    def __init__(self, director: Director, metrics: Metrics) -> None:
        self._director = director
        self._metrics = metrics

    async def Process(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        exchange = Exchange(self._director, self._metrics)
        try:
            async for message in request_iterator:
                for answer in exchange.answers(message):
                    yield answer
                if exchange.ended:
                    return
        finally:
            exchange.close()
