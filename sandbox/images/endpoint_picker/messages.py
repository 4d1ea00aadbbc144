"""Envoy's ext_proc messages: the answers of the picker as protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.type.v3 import http_status_pb2
from google.protobuf import struct_pb2

DESTINATION = "x-gateway-destination-endpoint"
METADATA = "envoy.lb"
PASSED = "x-went-into-resp-headers"
CHUNK = 62_000  # a streamed body goes back in pieces below Envoy's 64 KiB


def header(name: str, value: str) -> Any:
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, raw_value=value.encode()))


def headers_of(message: Any) -> dict[str, str]:
    """Headers of a request or response as Envoy sends them, names in lower case."""
    found = {}
    for entry in message.headers.headers:
        found[entry.key.lower()] = (entry.raw_value or entry.value.encode()).decode("utf-8", "replace")
    return found


def request_headers(destination: str, length: int, extra: Mapping[str, str]) -> Any:
    """Where the request goes: as a header, and as metadata for gateways that look there."""
    mutations = [header(DESTINATION, destination)]
    if length:
        mutations.append(header("Content-Length", str(length)))
    mutations += [header(name, value) for name, value in extra.items()]
    metadata = struct_pb2.Struct()
    metadata.update({METADATA: {DESTINATION: destination}})
    common = pb.CommonResponse(
        clear_route_cache=True, header_mutation=pb.HeaderMutation(set_headers=mutations)
    )
    return pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common), dynamic_metadata=metadata)


def _pieces(body: bytes, *, end: bool) -> Iterator[Any]:
    starts = range(0, len(body), CHUNK) if body else (0,)
    for start in starts:
        piece = body[start : start + CHUNK]
        streamed = pb.StreamedBodyResponse(body=piece, end_of_stream=end and start + CHUNK >= len(body))
        yield pb.BodyResponse(
            response=pb.CommonResponse(body_mutation=pb.BodyMutation(streamed_response=streamed))
        )


def request_body(body: bytes, *, end: bool = True) -> Iterator[Any]:
    for piece in _pieces(body, end=end):
        yield pb.ProcessingResponse(request_body=piece)


def response_body(body: bytes, *, end: bool) -> Iterator[Any]:
    for piece in _pieces(body, end=end):
        yield pb.ProcessingResponse(response_body=piece)


def request_trailers() -> Any:
    return pb.ProcessingResponse(request_trailers=pb.TrailersResponse())


def response_trailers() -> Any:
    return pb.ProcessingResponse(response_trailers=pb.TrailersResponse())


def response_headers() -> Any:
    """Marks every answer that went through the picker."""
    common = pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=[header(PASSED, "true")]))
    return pb.ProcessingResponse(response_headers=pb.HeadersResponse(response=common))


def immediate(status: int, text: str) -> Any:
    """The gateway answers by itself, with a plain text."""
    return pb.ProcessingResponse(
        immediate_response=pb.ImmediateResponse(
            status=http_status_pb2.HttpStatus(code=status), body=text.encode()
        )
    )
