from __future__ import annotations

import re

import pytest

from sandbox.gke import names
from sandbox.gke.names import Namer

CLASS = "gke-l7-regional-external-managed"


def test_backend_service_has_the_shape_of_a_real_one() -> None:
    name = Namer("uid").backend_service(CLASS, "llm-d", "gaie-pattern1-ips-b68768ac", 54321)
    assert re.fullmatch(r"gkegw1-[0-9a-z]{4}-llm-d-gaie-pattern1-ips-b68768ac-54321-[0-9a-z]{12}", name)
    assert len(name) == 63  # as gkegw1-on7z-llm-d-gaie-pattern1-ips-b68768ac-54321-0izcufp50m0a


@pytest.mark.parametrize("length", [1, 10, 40, 63])
def test_every_name_fits_and_is_a_dns_label(length: int) -> None:
    namer = Namer("uid")
    word = ("ab-" * 30)[:length].rstrip("-")
    made = [
        namer.backend_service(CLASS, word, word, 65535),
        namer.gateway(CLASS, word, word, "address"),
        namer.firewall(word, "us-central1"),
        namer.network_endpoint_group(word, word, 80),
        names.pool_service(word, word),
    ]
    for name in made:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), name
        assert len(name) <= 63


def test_long_parts_that_differ_at_the_end_keep_different_names() -> None:
    namer = Namer("uid")
    made = {namer.backend_service(CLASS, "n" * 40, "s" * 40 + str(number), 80) for number in range(20)}
    assert len(made) == 20


def test_names_are_stable_and_depend_on_cluster_and_class() -> None:
    first = Namer("uid").backend_service(CLASS, "a", "b", 80)
    assert first == Namer("uid").backend_service(CLASS, "a", "b", 80)
    assert first != Namer("other").backend_service(CLASS, "a", "b", 80)
    assert first != Namer("uid").backend_service("gke-l7-rilb", "a", "b", 80)


def test_trim_takes_from_the_longest() -> None:
    assert names.trim(["abcdefgh", "xy"], 6) == ["abcd", "xy"]
    assert names.trim(["a", "b"], 9) == ["a", "b"]


def test_pool_service() -> None:
    assert re.fullmatch(r"gaie-pattern1-ips-[0-9a-f]{8}", names.pool_service("llm-d", "gaie-pattern1"))
