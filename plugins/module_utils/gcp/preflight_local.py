# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight of what is not Google: helm, Python libraries, the Hugging Face token, access to the model, the cost."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import ERROR, OK, WARNING, Check

OLDEST_HELM = (3, 12)
LIBRARIES = {"google.auth": "google-auth", "requests": "requests", "kubernetes": "kubernetes"}
HUB = "https://huggingface.co"


def helm(find: Callable[[], str | None], version: Callable[[str], str]) -> Check:
    """``find`` gives helm's path or None; ``version`` the output of ``helm version --short``."""
    path = find()
    remedy = "Install helm 3.12 or newer where this task runs (https://helm.sh), on PATH."
    if not path:
        return Check("helm", ERROR, "not found on PATH", "HELM_MISSING", remedy)
    output = version(path)
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", output)
    if match is None:
        return Check("helm", ERROR, f"{path} does not tell its version: {output.strip()[:200]}", "HELM_MISSING", remedy)
    if (int(match.group(1)), int(match.group(2))) < OLDEST_HELM:
        return Check("helm", ERROR, f"{path} is {match.group(0)}, older than 3.12", "HELM_TOO_OLD", remedy)
    return Check("helm", OK, f"{match.group(0)} at {path}")


def python_libraries(
    wanted: Mapping[str, str] | None = None,
    present: Callable[[str], bool] | None = None,
) -> Check:
    """The libraries that this collection's modules import."""
    names = LIBRARIES if wanted is None else wanted
    missing = [package for module, package in names.items() if not (present or _importable)(module)]
    if missing:
        remedy = f"pip install {' '.join(missing)} into the Python that ansible_python_interpreter names."
        return Check("python libraries", ERROR, f"missing: {', '.join(missing)}", "LIBRARY_MISSING", remedy)
    return Check("python libraries", OK, ", ".join(names.values()))


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


@dataclass(frozen=True)
class HubAnswer:
    """What the hub said. ``error_code`` is its X-Error-Code header (GatedRepo, RepoNotFound, ...)."""

    status: int
    error_code: str = ""
    message: str = ""
    text: str = ""


class HubUnreachable(Exception):
    """No answer from the hub."""


def ask_hub(url: str, token: str) -> HubAnswer:
    """GET ``url`` with the token, which a redirect to another host (the file store) does not get to see."""
    import requests

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        response = requests.get(url, headers=headers, timeout=15)
    except (requests.exceptions.RequestException, OSError) as error:
        raise HubUnreachable(f"{type(error).__name__}: {error}") from error
    return HubAnswer(
        response.status_code,
        response.headers.get("X-Error-Code", ""),
        response.headers.get("X-Error-Message", ""),
        response.text,
    )


def config_url(endpoint: str, model: str) -> str:
    return f"{endpoint.rstrip('/')}/{quote(model, safe='/')}/resolve/main/config.json"


def model_access(
    model: str, token: str, endpoint: str = "", ask: Callable[[str, str], HubAnswer] = ask_hub, *, needed: bool = True
) -> Iterable[Check]:
    """May this token read that model? Asked for its config.json, as the model server will. Never shows the token.

    needed: the model servers download with it; else the weights are on a volume, or somebody else keeps the Secret.
    """
    if not token and not needed:
        detail = "none was given and none is needed here; whether the model can be read and fits was not looked at"
        yield Check("hugging face token", OK, detail)
        return
    if not token:
        remedy = (
            "Set llmd_hf_token, or HF_TOKEN in the environment (https://huggingface.co/settings/tokens, a read token)."
        )
        yield Check("hugging face token", ERROR, "no token was given", "HF_TOKEN_MISSING", remedy)
        return
    if not model:
        yield Check("hugging face token", OK, "given; no model to try it on")
        return
    base = (endpoint or HUB).rstrip("/")
    url = config_url(base, model)
    try:
        answer = ask(url, token)
    except HubUnreachable as error:
        detail = f"{base} cannot be reached from here, access to {model} was not checked: {str(error)[:300]}"
        yield Check(
            "hugging face model",
            WARNING,
            detail,
            "HF_UNREACHABLE",
            "The cluster's nodes must reach it; set HF_ENDPOINT for a mirror.",
        )
        return
    judged = _judge(model, base, answer)
    yield judged if needed or judged.severity != ERROR else replace(judged, severity=WARNING)


def _judge(model: str, base: str, answer: HubAnswer) -> Check:
    name = "hugging face model"
    said = f" ({answer.message})" if answer.message else ""
    if answer.status < 400:
        return Check(name, OK, f"{model} can be read with the token")
    if answer.status == 403 or answer.error_code == "GatedRepo":
        remedy = f"Open {base}/{model} as the token's owner, accept the licence, and let the token read gated models."
        return Check(
            name, ERROR, f"{model} is gated and the token's owner has no access{said}", "HF_MODEL_GATED", remedy
        )
    if answer.status == 404 or answer.error_code == "RepoNotFound":
        return Check(
            name, ERROR, f"{base} has no model {model}{said}", "HF_MODEL_NOT_FOUND", "Check llmd_model (owner/name)."
        )
    if answer.status == 401:
        remedy = "Make a new read token at https://huggingface.co/settings/tokens and set llmd_hf_token / HF_TOKEN."
        return Check(name, ERROR, f"{base} refuses the token{said}", "HF_TOKEN_REFUSED", remedy)
    return Check(name, WARNING, f"{base} answered {answer.status}, access to {model} was not checked", "HF_UNREACHABLE")


def cost(estimate: Mapping[str, Any]) -> Check:
    """The estimate as a finding. A price that is not listed is never counted as free."""
    prices = f"list prices {estimate.get('as_of')}, {estimate.get('region')}"
    detail = f"about {float(estimate.get('usd') or 0):.2f} USD an hour ({prices})"
    if estimate.get("complete", True):
        return Check("cost", OK, detail, evidence=estimate.get("lines"))
    missing = "; ".join(str(line["what"]) for line in estimate.get("lines") or [] if line.get("usd") is None)
    return Check("cost", WARNING, f"{detail}, without: {missing}", "COST_INCOMPLETE", "", estimate.get("lines"))
