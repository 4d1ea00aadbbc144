# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of the endpoint means. Pure: an answer in, a cause out.

The texts are those of Google's load balancer, of the endpoint picker (GAIE v1.2.0, recorded through a real Envoy) and
of vLLM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer


@dataclass(frozen=True)
class Cause:
    """Why a request failed. transient: a load balancer or pod that is still coming up answers like this for a while."""

    code: str
    what: str
    remedy: str
    transient: bool


@dataclass(frozen=True)
class _Rule:
    cause: Cause
    statuses: frozenset[int]
    pattern: str


def _rule(code: str, statuses: set[int], pattern: str, what: str, remedy: str, transient: bool) -> _Rule:
    return _Rule(Cause(code, what, remedy, transient), frozenset(statuses), pattern)


RULES = (
    _rule(
        "NO_ROUTE_YET",
        set(),
        r"fault filter abort",
        "The load balancer has no route for the request.",
        "Wait if the route is new; else check that the HTTPRoute is Accepted, ResolvedRefs and Reconciled"
        " (llmd.gke.gateway_reconcile with routes).",
        True,
    ),
    _rule(
        "NO_HEALTHY_UPSTREAM",
        set(),
        r"no healthy upstream",
        "The load balancer has no healthy pod behind the route.",
        "Look at the backends' health (llmd.gke.backend_health) and at the model-server pods.",
        True,
    ),
    _rule(
        "PICKER_NO_PODS",
        set(),
        r"failed to find candidate pods|no pods available in datastore",
        "The endpoint picker knows no ready model-server pod.",
        "Check that a model-server pod is Ready and carries the labels of the InferencePool's selector.",
        True,
    ),
    _rule(
        "PICKER_OVERLOADED",
        {429},
        r"",
        "The endpoint picker turns requests away: every pod is saturated.",
        "Wait, or add replicas.",
        True,
    ),
    _rule(
        "PICKER_BAD_REQUEST",
        {400},
        r"inference gateway: BadRequest",
        "The endpoint picker refuses the request.",
        "Send JSON with a model name.",
        False,
    ),
    _rule(
        "MODEL_UNKNOWN",
        {404},
        r"The model .* does not exist",
        "The model server does not serve this model.",
        "Compare llmd_model with the list at /v1/models.",
        False,
    ),
    _rule(
        "BODY_ROUTER_UNSEEN",
        {404},
        r"names no model that is served here",
        "The request reached the catalogue of models: no router in front has named its model.",
        "Wait while the routing extension is new; else look at the GCPRoutingExtension and at the router's pod.",
        True,
    ),
    _rule(
        "CHAT_SYSTEM_ROLE",
        {400},
        r"System role not supported",
        "The model's chat template knows no system role.",
        "Send user and assistant messages only.",
        False,
    ),
    _rule(
        "CONTEXT_TOO_LONG",
        {400},
        r"maximum context length",
        "Prompt and max_tokens together exceed the model's context.",
        "Send less, or raise llmd_max_model_len as far as the GPU's memory allows.",
        False,
    ),
    _rule(
        "PICKER_UNREACHABLE",
        {500},
        r"\A\Z",
        "The load balancer cannot reach the endpoint picker (500 with an empty body).",
        "Check the picker's pod (POOL-epp...) and its Service.",
        True,
    ),
    _rule(
        "REQUEST_TIMED_OUT",
        {408, 504},
        r"upstream request timeout|response timeout|stream timeout",
        "The load balancer ended the request: it took longer than the pool's policy allows.",
        "Raise llmd_backend_timeout (the pool chart's own limit is 300 s), or ask for less.",
        False,
    ),
    _rule(
        "ENDPOINT_NOT_READY",
        {502, 503, 504},
        r"",
        "The load balancer does not serve yet.",
        "Wait; then look at the Gateway's conditions and the backends' health.",
        True,
    ),
)


def explain_answer(answer: Answer) -> Cause | None:
    """Why an answer is not the wished-for 200; None if it is one."""
    if answer.status == 200:
        return None
    if answer.status == 0 and "CERTIFICATE_VERIFY_FAILED" in answer.error:
        return Cause(
            "ENDPOINT_CERTIFICATE_INVALID",
            f"The endpoint's certificate is not to be trusted: {answer.error}",
            "Name the CA that signed it (llmd_tls.ca_file), and a host name that it is made out to (llmd_hostnames).",
            False,
        )
    if answer.status == 0:
        return Cause(
            "ENDPOINT_UNREACHABLE",
            f"No answer: {answer.error}",
            "Check the address, and that this machine may reach it (an internal one answers in its VPC only).",
            True,
        )
    text = answer.text.strip()
    for rule in RULES:
        if (not rule.statuses or answer.status in rule.statuses) and re.search(rule.pattern, text, re.IGNORECASE):
            return rule.cause
    return Cause("UNEXPECTED_ANSWER", f"HTTP {answer.status}: {text[:300]}", "Read the answer.", False)


def went_through_picker(answer: Answer, header: str) -> bool:
    """Whether the answer carries the header that the endpoint picker adds to every response it handled."""
    return answer.headers.get(header.lower()) == "true"
