"""The exchange with Envoy: the whole request body is read, its ``model`` becomes a header, the route is chosen anew."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as rpc

from sandbox.images.body_router.metrics import Metrics
from sandbox.images.endpoint_picker import messages
from sandbox.images.endpoint_picker.logs import Logger

MODEL_HEADER = "X-Gateway-Model-Name"
BASE_HEADER = "X-Gateway-Base-Model-Name"
_LOG = Logger()


class Unreadable(Exception):
    """A body that ends the exchange with an error: Envoy answers 500, or goes on where it may fail open."""


def headers_for(body: bytes, base_of: Callable[[str], str] | None, metrics: Metrics) -> dict[str, str]:
    """Headers that a request body asks for; none where it names no model. Raises Unreadable.

    ``base_of``: the base model of a model or adapter; None in the generation that does not know base models.
    """
    try:
        data = json.loads(body)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if not isinstance(data, dict):
        raise Unreadable(f"json: cannot unmarshal {type(data).__name__} into a map")
    if "model" not in data:
        metrics.absent.inc()
        _LOG.info("Request body does not contain model parameter")
        return {}
    model = data["model"]
    if not isinstance(model, str):
        metrics.unparsed.inc()
        if base_of is None:
            raise Unreadable(f"the model parameter value {model} is not a string")
        model = json.dumps(model)
    metrics.success.inc()
    found = {MODEL_HEADER: model}
    if base_of is not None:
        found[BASE_HEADER] = base_of(model)
    return found


def _common(headers: Mapping[str, str]) -> Any:
    """With ``clear_route_cache``: without it the headers would come too late for the routes."""
    mutations = [messages.header(name, value) for name, value in headers.items()]
    return pb.CommonResponse(clear_route_cache=True, header_mutation=pb.HeaderMutation(set_headers=mutations))


class Exchange:
    """State of one request. ``streaming``: bodies come and go in full duplex, and headers are answered with them."""

    def __init__(self, base_of: Callable[[str], str] | None, metrics: Metrics, *, streaming: bool) -> None:
        self._base_of = base_of
        self._metrics = metrics
        self._streaming = streaming
        self._body = bytearray()
        self._answered = False

    def answers(self, message: Any) -> Iterator[Any]:
        """What one message of Envoy's is answered with. Raises Unreadable."""
        kind = message.WhichOneof("request")
        part = getattr(message, kind)
        if kind == "request_headers":
            if part.end_of_stream or not self._streaming:
                self._answered = True
                yield pb.ProcessingResponse(request_headers=pb.HeadersResponse())
        elif kind == "request_body":
            self._body += part.body
            if part.end_of_stream or not self._streaming:
                yield from self._decide(end=True)
        elif kind == "request_trailers":
            if self._streaming and not self._answered:
                yield from self._decide(end=False)
            yield messages.request_trailers()

    def _decide(self, *, end: bool) -> Iterator[Any]:
        body = bytes(self._body)
        headers = headers_for(body, self._base_of, self._metrics)
        self._answered = True
        if not self._streaming:
            response = pb.BodyResponse(response=_common(headers)) if headers else pb.BodyResponse()
            yield pb.ProcessingResponse(request_body=response)
            return
        response = pb.HeadersResponse(response=_common(headers)) if headers else pb.HeadersResponse()
        yield pb.ProcessingResponse(request_headers=response)
        yield from messages.request_body(body, end=end)


class Servicer(rpc.ExternalProcessorServicer):  # type: ignore[misc]
    """envoy.service.ext_proc.v3.ExternalProcessor."""

    def __init__(self, base_of: Callable[[str], str] | None, metrics: Metrics, *, streaming: bool) -> None:
        self._base_of = base_of
        self._metrics = metrics
        self._streaming = streaming

    async def Process(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        exchange = Exchange(self._base_of, self._metrics, streaming=self._streaming)
        async for message in request_iterator:
            try:
                for answer in exchange.answers(message):
                    yield answer
            except Unreadable as error:
                _LOG.error("Failed to process request", error)
                await context.abort(grpc.StatusCode.UNKNOWN, f"failed to handle request: {error}")
