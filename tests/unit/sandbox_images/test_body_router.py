"""The body-based router: which headers a body asks for, message by message; base models from ConfigMaps."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("grpc")
pytest.importorskip("envoy.service.ext_proc.v3.external_processor_pb2")
pytest.importorskip("prometheus_client")

from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from sandbox.images.body_router import models
from sandbox.images.body_router.ext_proc import Exchange, Unreadable, headers_for
from sandbox.images.body_router.metrics import Metrics


def headers(*, end: bool = False) -> Any:
    path = base_pb2.HeaderValue(key=":path", raw_value=b"/v1/completions")
    return pb.ProcessingRequest(
        request_headers=pb.HttpHeaders(headers=base_pb2.HeaderMap(headers=[path]), end_of_stream=end)
    )


def body(data: bytes, *, end: bool) -> Any:
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=data, end_of_stream=end))


def mutations(common: Any) -> dict[str, str]:
    return {entry.header.key: entry.header.raw_value.decode() for entry in common.header_mutation.set_headers}


def test_nothing_is_said_before_the_body_is_whole() -> None:
    exchange = Exchange(None, Metrics(), streaming=True)
    text = json.dumps({"model": "google/gemma-2b-it", "prompt": "x" * 100_000}).encode()
    assert list(exchange.answers(headers())) == []
    assert list(exchange.answers(body(text[:10], end=False))) == []
    first, *rest = list(exchange.answers(body(text[10:], end=True)))
    common = first.request_headers.response
    assert mutations(common) == {"X-Gateway-Model-Name": "google/gemma-2b-it"}
    assert common.clear_route_cache
    pieces = [answer.request_body.response.body_mutation.streamed_response for answer in rest]
    assert b"".join(piece.body for piece in pieces) == text
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_without_a_body_it_lets_pass() -> None:
    (answer,) = Exchange(None, Metrics(), streaming=True).answers(headers(end=True))
    assert answer.WhichOneof("response") == "request_headers"
    assert not answer.request_headers.response.clear_route_cache


def test_trailers_end_a_body() -> None:
    exchange = Exchange(None, Metrics(), streaming=True)
    list(exchange.answers(headers()))
    list(exchange.answers(body(b'{"model": "m"}', end=False)))
    trailers = pb.ProcessingRequest(request_trailers=pb.HttpTrailers())
    kinds = [answer.WhichOneof("response") for answer in exchange.answers(trailers)]
    assert kinds == ["request_headers", "request_body", "request_trailers"]


def test_buffered_bodies() -> None:
    exchange = Exchange(None, Metrics(), streaming=False)
    (first,) = exchange.answers(headers())
    assert first.WhichOneof("response") == "request_headers"
    (second,) = exchange.answers(body(b'{"model": "m"}', end=True))
    assert mutations(second.request_body.response) == {"X-Gateway-Model-Name": "m"}


def test_bodies_that_name_no_model() -> None:
    figures = Metrics()
    assert headers_for(b'{"prompt": "x"}', None, figures) == {}
    for text in (b"not json", b"[]", b'{"model": 5}'):
        with pytest.raises(Unreadable):
            headers_for(text, None, figures)
    assert headers_for(b'{"model": 5}', lambda model: "", figures)["X-Gateway-Model-Name"] == "5"
    text = figures.exposition().decode()
    assert "bbr_model_not_in_body_total 1.0" in text
    assert "bbr_model_not_parsed_total 2.0" in text
    assert "bbr_success_total 1.0" in text


def config_map(base: str, adapters: str = "", **labels: str) -> dict[str, Any]:
    managed = {models.LABEL: "true", **labels}
    return {"metadata": {"name": "x", "labels": managed}, "data": {"baseModel": base, "adapters": adapters}}


def test_base_models() -> None:
    known = models.Models()
    known.put("a", models.read(config_map("google/gemma-2b-it", "- poet\n- lawyer\n")))
    known.put("b", models.read(config_map("google/gemma-2b-it", "- cook\n")))
    assert [known.base_of(name) for name in ("poet", "cook", "google/gemma-2b-it", "nope")] == [
        "google/gemma-2b-it", "google/gemma-2b-it", "google/gemma-2b-it", "",
    ]  # fmt: skip
    found = headers_for(b'{"model": "poet"}', known.base_of, Metrics())
    assert found == {"X-Gateway-Model-Name": "poet", "X-Gateway-Base-Model-Name": "google/gemma-2b-it"}
    known.put("a", None)
    assert known.base_of("poet") == ""
    assert known.base_of("google/gemma-2b-it") == "google/gemma-2b-it"


@pytest.mark.parametrize("adapters", ["{a: b}", "- 5", "[", "word"])
def test_malformed_adapters(adapters: str) -> None:
    with pytest.raises(models.Malformed):
        models.read(config_map("m", adapters))
    with pytest.raises(models.Malformed):
        models.read(config_map(" "))


def test_only_labelled_config_maps_count() -> None:
    assert models.managed(config_map("m"))
    assert not models.managed({"metadata": {"name": "x"}})
    assert not models.managed(config_map("m", **{models.LABEL: "false"}))
