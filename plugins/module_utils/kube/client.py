# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few calls that the library makes to an API server, on dictionaries."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from typing import Any, Protocol

from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, KubernetesError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.kube import direct
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import newest_first
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import EVENT, POD, Kind
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, report_progress

FIELD_MANAGER = "llmd-gke"
REQUEST_TIMEOUT = 30.0
TRANSIENT = frozenset({0, 429, 500, 502, 503, 504})
# answers of a server that is there and overloaded or restarting; a dead one (0) is told at once
STUMBLING = TRANSIENT - {0}
PATIENCE = 20.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0

Manifest = dict[str, Any]


class Transport(Protocol):
    """One raw request: kubernetes.core's dynamic client, or direct.DirectTransport."""

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any: ...


class ApiProblem(KubernetesError):
    """The API server refused a request or could not be reached (``status`` 0)."""

    def __init__(self, what: str, *, status: int, **kwargs: Any) -> None:
        super().__init__(what, **kwargs)
        self.status = status

    @property
    def transient(self) -> bool:
        """Whether trying again later may work: no connection, throttled, or the server's own trouble."""
        return self.status in TRANSIENT


def explain_status(status: int, message: str, method: str, path: str) -> ApiProblem:
    """An HTTP answer of the API server as an error with a code. ``message`` is the server's own Status.message."""
    where = f"{method.upper()} {path}"
    if status == 401:
        return ApiProblem(
            "The Kubernetes API refuses our credentials.",
            status=status,
            code="CLUSTER_TOKEN_EXPIRED",
            where=where,
            why=message or "401 Unauthorized",
            remedy="Get fresh credentials (run the play again: llmd.gke.gke_credentials mints a token each time).",
        )
    if status == 403:
        return ApiProblem(
            "The Kubernetes API does not allow this.",
            status=status,
            code="KUBERNETES_FORBIDDEN",
            where=where,
            why=message,
            remedy="Grant roles/container.admin on the project to the identity named in the message, then run again.",
        )
    if status == 0:
        return ApiProblem(
            "The Kubernetes API cannot be reached.",
            status=status,
            code="CLUSTER_UNREACHABLE",
            where=where,
            why=message,
            remedy="Check that the cluster is RUNNING and that this machine may reach it (authorized networks, proxy).",
        )
    return ApiProblem(
        f"The Kubernetes API answered {status}.",
        status=status,
        code="KUBERNETES_API_ERROR",
        where=where,
        why=message,
        remedy="Run again if this was a passing fault; the request and the server's words are above.",
    )


def _status_message(error: Exception) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str) and body:
        try:
            parsed = json.loads(body)
        except ValueError:
            return body.strip()[:2000]
        if isinstance(parsed, dict) and parsed.get("message"):
            return str(parsed["message"])
        return body.strip()[:2000]
    return str(getattr(error, "reason", "") or error)


class KubeClient:
    """Reads and writes objects as dictionaries. 404 is an answer (None), every other refusal an ``ApiProblem``."""

    def __init__(
        self,
        transport: Transport,
        timeout: float | tuple[float, float] = REQUEST_TIMEOUT,
        patience: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        """timeout: seconds for one request, or (to connect, to read). patience: seconds for which a read is repeated
        while the server throttles or stumbles (429, 5xx); writes are the caller's to repeat."""
        self._transport = transport
        self._timeout = timeout
        self._patience = patience
        self._clock: Clock = clock or SystemClock()
        self.requests = 0

    def _call(self, method: str, path: str, body: Any = None, **params: Any) -> bytes:
        began, pause = self._clock.now(), FIRST_PAUSE
        while True:
            try:
                return self._once(method, path, body, **params)
            except ApiProblem as problem:
                waited = self._clock.now() - began
                if method != "get" or problem.status not in STUMBLING or waited + pause > self._patience:
                    raise
                report_progress(f"the Kubernetes API answered {problem.status}; asking again in {pause:g} s")
            self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, method: str, path: str, body: Any = None, **params: Any) -> bytes:
        self.requests += 1
        params.setdefault("_request_timeout", self._timeout)
        try:
            response = self._transport.request(method, path, body=body, serialize=False, **params)
            data: bytes = response.data  # read here: a connection may also break while the body arrives
            return data
        except LlmdError:
            raise
        except Exception as error:  # the client's exception classes differ between its generations
            status = getattr(error, "status", None)
            if status is None and not direct.is_transport_error(error):
                raise
            raise explain_status(int(status or 0), _status_message(error), method, path) from error

    def get(self, kind: Kind, name: str, namespace: str = "") -> Manifest | None:
        """One object, None if it (or its kind) does not exist."""
        try:
            return _as_object(self._call("get", kind.path(name, namespace)))
        except ApiProblem as problem:
            if problem.status == 404:
                return None
            raise

    def objects(self, kind: Kind, namespace: str = "", labels: str = "", fields: str = "") -> list[Manifest]:
        """All objects of a kind (an unknown kind has none), by label and field selectors in the API's own syntax."""
        query = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        try:
            answer = _as_object(self._call("get", kind.path(namespace=namespace, query=query)))
        except ApiProblem as problem:
            if problem.status == 404:
                return []
            raise
        items: list[Manifest] = answer.get("items") or []
        return items

    def labels_of(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Manifest]:
        """Only the metadata of objects: for Secrets, whose content is nobody's business, and for large objects."""
        path = kind.path(namespace=namespace, query={"labelSelector": labels} if labels else {})
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        items: list[Manifest] = _as_object(self._call("get", path, header_params={"Accept": accept})).get("items") or []
        return items

    def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False, force: bool = True) -> Manifest:
        """Server-side apply under our field manager; returns the object as the server now has it."""
        metadata = manifest.get("metadata") or {}
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        path = kind.path(str(metadata["name"]), str(metadata.get("namespace") or ""), query=query)
        # an object, not text: clients of both generations serialise it as JSON (which is YAML) for this media type
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **manifest}
        return _as_object(self._call("patch", path, body, content_type="application/apply-patch+yaml"))

    def annotate(self, kind: Kind, name: str, namespace: str, annotations: dict[str, str | None]) -> Manifest:
        """Set annotations (None removes one) by a merge patch that touches nothing else."""
        return self.merge(kind, name, namespace, {"metadata": {"annotations": annotations}})

    def merge(self, kind: Kind, name: str, namespace: str, patch: Manifest) -> Manifest:
        """A merge patch: what it names is set (None removes), everything else stays. The object as it is then."""
        path = kind.path(name, namespace, query={"fieldManager": FIELD_MANAGER})
        return _as_object(self._call("patch", path, patch, content_type="application/merge-patch+json"))

    def events(self, name: str, namespace: str, kind: str = "", uid: str = "") -> list[Manifest]:
        """Events about one object, newest first. The API server drops them after an hour or so."""
        fields = f"involvedObject.name={name}"
        if kind:
            fields += f",involvedObject.kind={kind}"
        if uid:
            fields += f",involvedObject.uid={uid}"
        return newest_first(self.objects(EVENT, namespace, fields=fields))

    def logs(
        self, pod: str, namespace: str, *, container: str = "", previous: bool = False, tail: int = 0, limit: int = 0
    ) -> str:
        """A container's log, "" if none; ``previous``: before the last restart, ``tail`` lines, ``limit`` bytes."""
        query: dict[str, str] = {}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        if tail:
            query["tailLines"] = str(tail)
        if limit:
            query["limitBytes"] = str(limit)
        try:
            data = self._call("get", POD.path(pod, namespace, "log", query), header_params={"Accept": "*/*"})
        except ApiProblem as problem:
            if problem.status in (400, 404):  # not started yet, no previous container, pod gone
                return ""
            raise
        text = data.decode("utf-8", "replace")
        # the kubelet's answer, with status 200, for a container that was cleaned away meanwhile
        return "" if text.startswith("unable to retrieve container logs for ") else text

    def pod_get(self, pod: str, namespace: str, port: int, path: str) -> str:
        """GET http://pod:port/path through the API server (no route from here to the pod is needed)."""
        where = POD.path(f"{pod}:{port}", namespace, "proxy") + "/" + path.lstrip("/")
        return self._call("get", where, header_params={"Accept": "*/*"}).decode("utf-8", "replace")

    def pod_post(self, pod: str, namespace: str, port: int, path: str, body: Manifest) -> str:
        """POST a JSON object to http://pod:port/path through the API server; the answer's text."""
        where = POD.path(f"{pod}:{port}", namespace, "proxy") + "/" + path.lstrip("/")
        data = self._call("post", where, body, content_type="application/json", header_params={"Accept": "*/*"})
        return data.decode("utf-8", "replace")

    def delete(
        self, kind: Kind, name: str, namespace: str = "", *, propagation: str = "Background", grace: int | None = None
    ) -> bool:
        """Ask for deletion (``grace`` seconds instead of the object's own); False if there was nothing to delete."""
        query = {"propagationPolicy": propagation}
        if grace is not None:
            query["gracePeriodSeconds"] = str(grace)
        path = kind.path(name, namespace, query=query)
        try:
            self._call("delete", path)
        except ApiProblem as problem:
            if problem.status == 404:
                return False
            raise
        return True

    def discover(self, api_version: str, kind: str) -> Kind | None:
        """A kind's path as the server tells it; None where it serves no such kind."""
        root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        try:
            listed = _as_object(self._call("get", root)).get("resources") or []
        except ApiProblem as problem:
            if problem.status == 404:
                return None
            raise
        for entry in listed:
            if entry.get("kind") == kind and "/" not in str(entry.get("name")):
                return Kind(api_version, kind, str(entry["name"]), bool(entry.get("namespaced")))
        return None

    def version(self) -> str:
        """The server's gitVersion ("v1.33.5-gke.2019000")."""
        return str(_as_object(self._call("get", "/version")).get("gitVersion") or "")


def _as_object(data: bytes | str) -> Manifest:
    parsed = json.loads(data)
    if not isinstance(parsed, dict):
        raise KubernetesError("The Kubernetes API sent something that is no object.", evidence=str(parsed)[:500])
    return parsed


def label_selector(labels: dict[str, str]) -> str:
    """A matchLabels dictionary in the API's selector syntax."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def client_from_params(
    params: dict[str, Any], timeout: float | tuple[float, float] = REQUEST_TIMEOUT, patience: float = PATIENCE
) -> KubeClient:
    """A client from a module's parameters (kubernetes.core's authentication options and their environment names)."""
    auth = {name: params[name] for name in AUTH_ARG_SPEC if params.get(name) is not None}
    missing = [library for library in ("kubernetes", "yaml") if find_spec(library) is None]
    if missing:
        raise ConfigurationError(
            f"Python libraries are missing in {sys.executable}: {', '.join(missing)}.",
            code="PYTHON_LIBRARY_MISSING",
            remedy="pip install kubernetes PyYAML in the interpreter that Ansible uses (ansible_python_interpreter).",
        )
    access = direct.access_of(auth)
    transport = _through_client(auth) if access is None else direct.DirectTransport(access)
    return KubeClient(transport, timeout, patience)


def _through_client(auth: dict[str, Any]) -> Transport:
    """kubernetes.core's client. Imported only where it is needed: that takes longer than most of our modules run."""
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import get_api_client
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s.exceptions import CoreException

    try:
        api = get_api_client(**auth)
    except CoreException as error:
        raise _no_credentials(str(error)) from error
    except Exception as error:  # kubernetes.config raises half a dozen types for a broken kubeconfig
        if type(error).__module__.startswith(("kubernetes", "yaml")) or isinstance(error, OSError):
            raise _no_credentials(str(error)) from error
        raise
    transport: Transport = api.client
    return transport


def _no_credentials(why: str) -> KubernetesError:
    return KubernetesError(
        "No usable access to a Kubernetes cluster.",
        code="KUBECONFIG_INVALID",
        why=why,
        remedy="Give kubeconfig, or host with api_key and ca_cert; llmd.gke.gke_credentials writes a kubeconfig.",
    )


__all__ = ["AUTH_ARG_SPEC", "ApiProblem", "KubeClient", "Manifest", "client_from_params", "label_selector"]
