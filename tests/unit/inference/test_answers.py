from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer, went_through_picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Endpoint
from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import (
    compare_scorers,
    parse_scorers,
    scorers_from_log,
    total,
)

CONFIG = (
    "{ProfileHandler: single-profile-handler/single-profile-handler, Profiles: map[default:{Filters: [], Scorers: "
    "[queue-scorer/queue-scorer: 2, kv-cache-utilization-scorer/kv-cache-utilization-scorer: 2, "
    "prefix-cache-scorer/prefix-cache-scorer: 3], Picker: max-score-picker/max-score-picker}]}"
)
WEIGHTS = {"queue-scorer": 2.0, "kv-cache-utilization-scorer": 2.0, "prefix-cache-scorer": 3.0}


@pytest.mark.parametrize(
    ("status", "body", "code", "transient"),
    [
        (404, "fault filter abort", "NO_ROUTE_YET", True),
        (500, "fault filter abort", "NO_ROUTE_YET", True),
        (503, "no healthy upstream", "NO_HEALTHY_UPSTREAM", True),
        (
            503,
            "inference gateway: ServiceUnavailable - failed to find candidate pods for serving the request",
            "PICKER_NO_PODS",
            True,
        ),
        (500, "inference gateway: Internal - no pods available in datastore", "PICKER_NO_PODS", True),
        (429, "inference gateway: InferencePoolResourceExhausted", "PICKER_OVERLOADED", True),
        (400, "inference gateway: BadRequest - model not found in request body", "PICKER_BAD_REQUEST", False),
        (400, '{"error":{"message":"System role not supported"}}', "CHAT_SYSTEM_ROLE", False),
        (400, "This model's maximum context length is 2048 tokens.", "CONTEXT_TOO_LONG", False),
        (404, '{"error":{"message":"The model `nope` does not exist."}}', "MODEL_UNKNOWN", False),
        (500, "", "PICKER_UNREACHABLE", True),
        (502, "bad gateway", "ENDPOINT_NOT_READY", True),
        (418, "teapot", "UNEXPECTED_ANSWER", False),
        (0, "", "ENDPOINT_UNREACHABLE", True),
    ],
)
def test_error_bodies_are_recognised(status: int, body: str, code: str, transient: bool) -> None:
    cause = explain_answer(Answer(status, body=body.encode()))
    assert cause is not None
    assert (cause.code, cause.transient) == (code, transient)
    assert cause.remedy


def test_200_is_no_error_and_the_header_is_the_proof() -> None:
    assert explain_answer(Answer(200)) is None
    header = "X-Went-Into-Resp-Headers"
    assert went_through_picker(Answer(200, {"x-went-into-resp-headers": "true"}), header)
    assert not went_through_picker(Answer(200), header)


def test_scorers_are_read_from_the_start_up_line() -> None:
    line = '{"level":"info","logger":"setup","msg":"parsed config","scheduler-config":"' + CONFIG + '"}'
    assert parse_scorers(CONFIG) == WEIGHTS
    assert scorers_from_log("noise\n" + line + "\nmore") == WEIGHTS
    assert scorers_from_log("2026-11-23T10:00:00Z " + line) == WEIGHTS
    assert scorers_from_log("nothing of the kind") == {}
    assert compare_scorers(WEIGHTS, {**WEIGHTS, "queue-scorer": 1.0}) == ["queue-scorer: 1 instead of 2"]
    assert compare_scorers(WEIGHTS, {"queue-scorer": 2.0})[0] == "kv-cache-utilization-scorer: absent"


def test_metrics_are_summed_over_their_series() -> None:
    text = (
        '# TYPE c counter\nc{model_name="a",target_model_name="a"} 3\nc{model_name="b"} 4\nc_more{model_name="a"} 9\n'
    )
    assert total(text, "c") == 7
    assert total(text, "c", {"model_name": "a"}) == 3
    assert total(text, "c", {"model_name": "z"}) is None


def test_addresses() -> None:
    assert Endpoint.parse("http://203.0.113.7/x/") == Endpoint("http", "203.0.113.7", 80, "/x")
    assert Endpoint.parse("https://llm.example").port == 443
    for wrong in ("203.0.113.7", "http://", "ftp://x"):
        with pytest.raises(ConfigurationError):
            Endpoint.parse(wrong)


RECORDED = Path(os.environ.get("LLMD_REFERENCE", Path(__file__).resolve().parents[4] / "shared/reference"))


@pytest.mark.skipif(not (RECORDED / "endpoint-picker").is_dir(), reason="no recorded reference here")
def test_the_real_pickers_log_and_metrics_are_understood() -> None:
    log = (RECORDED / "endpoint-picker/startup.log").read_text()
    assert scorers_from_log(log) == WEIGHTS
    metrics = (RECORDED / "endpoint-picker/metrics.txt").read_text()
    assert total(metrics, "inference_objective_request_total", {"model_name": "google/gemma-2b-it"}) == 4


@pytest.mark.skipif(not (RECORDED / "endpoint-picker").is_dir(), reason="no recorded reference here")
def test_the_real_pickers_error_answers_are_all_recognised() -> None:
    seen = []
    for section in (RECORDED / "endpoint-picker/answers.md").read_text().split("\n## ")[1:]:
        match = re.search(r"HTTP/1\.1 (\d+)", section)
        assert match is not None
        head, _unused, body = section.partition("\n\n")
        cause = explain_answer(Answer(int(match[1]), body=body.strip().encode()))
        if int(match[1]) != 200:
            assert cause is not None
            seen.append(cause.code)
        assert head
    assert {"PICKER_BAD_REQUEST", "MODEL_UNKNOWN", "CONTEXT_TOO_LONG", "PICKER_NO_PODS", "PICKER_UNREACHABLE"} <= set(
        seen
    )
