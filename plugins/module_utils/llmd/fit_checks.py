# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight of the model: its sizes from the hub, judged against the GPU and the volume it is downloaded to."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import ERROR, OK, WARNING, Check
from ansible_collections.llmd.gke.plugins.module_utils.gcp.plan import NodePlan
from ansible_collections.llmd.gke.plugins.module_utils.gcp.preflight_local import (
    HUB,
    HubAnswer,
    HubUnreachable,
    config_url,
)
from ansible_collections.llmd.gke.plugins.module_utils.llmd import fit

Ask = Callable[[str, str], HubAnswer]
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
NAME = "model on the GPU"


def read_model(model: str, token: str, endpoint: str, ask: Ask) -> fit.Model:
    """The model's sizes, from config.json and the hub's own count of its parameters. Raises fit.UnknownShape."""
    base = (endpoint or HUB).rstrip("/")
    try:
        config = _json(ask(config_url(base, model), token))
        described = _json(ask(f"{base}/api/models/{quote(model, safe='/')}", token))
    except (HubUnreachable, ValueError) as error:
        raise fit.UnknownShape(str(error)) from error
    stored = described.get("safetensors")
    parameters = stored.get("parameters") if isinstance(stored, dict) else None
    if not isinstance(parameters, dict) or not parameters:
        raise fit.UnknownShape("the hub does not tell how many parameters it has")
    return fit.model_of(model, config, parameters)


def _json(answer: HubAnswer) -> dict[str, Any]:
    if answer.status != 200:
        raise ValueError(f"the hub answered {answer.status}")
    document = json.loads(answer.text)
    if not isinstance(document, dict):
        raise ValueError("the hub answered something else than a JSON object")
    return document


def check_fit(
    read: Callable[[], fit.Model],
    accelerator: str,
    catalogue: Mapping[str, Mapping[str, Any]],
    serving: fit.Serving,
    volume: str = "",
) -> Iterator[Check]:
    """FIT is ok, TIGHT a warning, NO an error; what cannot be judged is a warning."""
    gpu = fit.gpu_of(catalogue, accelerator)
    if gpu is None:
        yield Check(NAME, WARNING, f"{accelerator} is not in the catalogue of GPUs: not judged", "MODEL_FIT_UNKNOWN")
        return
    try:
        model = read()
    except fit.UnknownShape as error:
        yield Check(NAME, WARNING, f"not judged: {error}", "MODEL_FIT_UNKNOWN")
        return
    verdict = fit.judge(model, gpu, serving)
    severity = {fit.FIT: OK, fit.TIGHT: WARNING, fit.NO: ERROR}[verdict.verdict]
    detail = f"{verdict.verdict}, margin {verdict.margin:.2f} GiB: {model.name} on {gpu.name}: {verdict.why}"
    remedy = f"In this order: {'; '.join(verdict.remedies)}." if verdict.remedies else ""
    yield Check(NAME, severity, detail, verdict.code, remedy, dict(verdict.numbers))
    room = to_bytes(volume)
    if room is not None and room < model.weight_bytes:
        needed = model.weight_bytes / fit.GIB
        detail = f"{volume} for the model's files, its weights alone take {needed:.1f} GiB"
        remedy = f"Set llmd_model_size to {int(needed * 1.2) + 1}Gi or more."
        yield Check("model volume", ERROR, detail, "MODEL_VOLUME_TOO_SMALL", remedy)


def check_node(
    read: Callable[[], fit.Model],
    node: NodePlan | None,
    catalogue: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
) -> list[Check]:
    """The model on the pool's GPU, and on each other GPU that is a fallback, where NO is a warning only.

    ``given``: the module's option ``serving``. Nothing to say where there is no GPU.
    """
    if node is None:
        return []
    serving = fit.Serving(
        dtype=given["dtype"],
        utilization=given["gpu_memory_utilization"],
        max_num_seqs=given["max_num_seqs"],
        max_model_len=given["max_model_len"],
        tensor_parallel=given["tensor_parallel"],
    )
    checks = list(check_fit(read, node.accelerator, catalogue, serving, given["volume"]))
    others = dict.fromkeys(other.accelerator for other in node.fallbacks)
    for accelerator in others:
        if accelerator and accelerator != node.accelerator:
            checks += [_of_fallback(check, accelerator) for check in check_fit(read, accelerator, catalogue, serving)]
    return checks


def _of_fallback(check: Check, accelerator: str) -> Check:
    severity = WARNING if check.severity == ERROR else check.severity
    return dataclasses.replace(check, name=f"{NAME} of fallback {accelerator}", severity=severity)


def to_bytes(quantity: str) -> int | None:
    """A Kubernetes quantity in bytes, None where it is empty or no quantity."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]i?)?", quantity.strip())
    return int(float(found.group(1)) * UNITS.get(found.group(2) or "", 1)) if found else None
