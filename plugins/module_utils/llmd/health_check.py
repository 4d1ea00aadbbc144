# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool chart's HealthCheckPolicy on clusters whose CRD refuses it.

Newer GKE Gateway CRDs want a portSpecification beside a port. The charts name the port only; helm then ends in "failed"
with everything but the policy in place, and Google's health checks go to "/", which no model server answers. So the
server is asked first, by a dry run, and where it refuses, the field is added to a copy of the chart. A chart that was
corrected works alike with helm 3, helm 4 and helmfile, and by hand, which no post-renderer does.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from pathlib import Path

from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem, KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import HEALTH_CHECK_POLICY, INFERENCE_POOL

REFUSAL = "portSpecification"
FIELD = "portSpecification: USE_FIXED_PORT"
_FLOW = re.compile(r"(\bhttpHealthCheck:[ \t]*\{)(?![^}\n]*portSpecification)")
_BLOCK = re.compile(r"^([ \t]*)httpHealthCheck:[ \t]*\n(?=([ \t]+)\S)", re.MULTILINE)


def refused(client: KubeClient, name: str, namespace: str) -> bool:
    """Whether this cluster refuses a port without portSpecification; False where it cannot be asked (no CRD, no right).

    name: the pool's. Nothing is written. Raises KubernetesError where the API does not answer at all.
    """
    live = client.get(HEALTH_CHECK_POLICY, name, namespace)
    # a dry run over a corrected policy would be merged with its portSpecification, and pass
    policy = {
        "metadata": {"name": f"{name[:50]}-asking" if live is not None else name, "namespace": namespace},
        "spec": {
            "targetRef": {"group": INFERENCE_POOL.api_version.split("/")[0], "kind": "InferencePool", "name": name},
            "default": {"config": {"type": "HTTP", "httpHealthCheck": {"requestPath": "/health", "port": 8000}}},
        },
    }
    try:
        client.apply(HEALTH_CHECK_POLICY, policy, dry_run=True)
    except ApiProblem as problem:
        if problem.transient:
            raise
        return REFUSAL in problem.why
    return False


def corrected_text(text: str) -> str:
    """A template with the field added to every HTTP health check that lacks it, in flow or in block style."""
    text = _FLOW.sub(rf"\1{FIELD}, ", text)

    def add(match: re.Match[str]) -> str:
        indentation = match[2]
        block = re.match(rf"(?:[ \t]*\n|{indentation}.*\n?)*", text[match.end() :])
        if block is not None and REFUSAL in block[0]:
            return match[0]
        return f"{match[0]}{indentation}{FIELD}\n"

    return _BLOCK.sub(add, text)


def correct(package: Path) -> bool:
    """Add the field inside a packaged chart (rewritten in place, by rename); whether anything had to be added."""
    changed = False
    packed = io.BytesIO()
    with (
        tarfile.open(package, "r:gz") as old,
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as new,
    ):
        for member in old:
            source = old.extractfile(member) if member.isfile() else None
            data = source.read() if source is not None else b""
            if "/templates/" in member.name and b"HealthCheckPolicy" in data:
                text = data.decode("utf-8")
                data = corrected_text(text).encode()
                changed = changed or data != text.encode()
                member.size = len(data)
            new.addfile(member, io.BytesIO(data) if source is not None else None)
    if changed:
        scratch = package.with_name(f".{package.name}.new")
        scratch.write_bytes(packed.getvalue())
        scratch.replace(package)
    return changed
