"""A small endpoint picker: always chooses one address. Same order of messages as the real one (GAIE v1.2.0)."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as services


def _header(key: str, value: str) -> Any:
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=key, raw_value=value.encode()))


def _headers(*values: Any, request: bool) -> Any:
    mutation = messages.HeaderMutation(set_headers=values)
    answer = messages.HeadersResponse(response=messages.CommonResponse(header_mutation=mutation))
    answer.response.clear_route_cache = request
    return messages.ProcessingResponse(**{"request_headers" if request else "response_headers": answer})


def _body(data: bytes, end: bool, request: bool) -> Any:
    streamed = messages.StreamedBodyResponse(body=data, end_of_stream=end)
    mutation = messages.BodyMutation(streamed_response=streamed)
    answer = messages.BodyResponse(response=messages.CommonResponse(body_mutation=mutation))
    return messages.ProcessingResponse(**{"request_body" if request else "response_body": answer})


class Picker(services.ExternalProcessorServicer):  # type: ignore[misc]
    """Sends every request to the next of ``destinations``."""

    def __init__(self, destinations: list[str]) -> None:
        self._next = itertools.cycle(destinations)

    def Process(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        collected = b""
        for request in requests:
            kind = request.WhichOneof("request")
            if kind == "request_headers" and request.request_headers.end_of_stream:
                yield self._choice(0)
            elif kind == "request_body":
                collected += request.request_body.body
                if request.request_body.end_of_stream:
                    yield self._choice(len(collected))
                    yield _body(collected, True, True)
            elif kind == "response_headers":
                yield _headers(_header("x-went-into-resp-headers", "true"), request=False)
            elif kind == "response_body":
                yield _body(request.response_body.body, request.response_body.end_of_stream, False)
            elif kind == "request_trailers":
                yield messages.ProcessingResponse(request_trailers=messages.TrailersResponse())
            elif kind == "response_trailers":
                yield messages.ProcessingResponse(response_trailers=messages.TrailersResponse())

    def _choice(self, length: int) -> Any:
        values = [_header("x-gateway-destination-endpoint", next(self._next))]
        if length:
            values.append(_header("Content-Length", str(length)))
        return _headers(*values, request=True)


def serve(address: str, port: int, destinations: list[str]) -> Any:
    """A running server with a certificate of its own; ``stop(None)`` ends it."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    services.add_ExternalProcessorServicer_to_server(Picker(destinations), server)
    server.add_secure_port(f"{address}:{port}", grpc.ssl_server_credentials([_certificate(address)]))
    server.start()
    return server


def _certificate(address: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "picker")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)
