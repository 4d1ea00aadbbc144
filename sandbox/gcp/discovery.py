"""Which method a request means, read from Google's own discovery documents.

The documents come with the PyPI package google-api-python-client. Each is loaded when its first request arrives:
compute's is 5 MB, the others are small.
"""

from __future__ import annotations

import importlib.util
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# host -> path prefix -> document. A prefix decides alone, so that compute.beta is not read for a v1 call.
DOCUMENTS: dict[str, dict[str, str]] = {
    "compute.googleapis.com": {"/compute/v1/": "compute.v1", "/compute/beta/": "compute.beta"},
    "container.googleapis.com": {"/v1/": "container.v1", "/v1beta1/": "container.v1beta1"},
    "serviceusage.googleapis.com": {"/v1/": "serviceusage.v1", "/v1beta1/": "serviceusage.v1beta1"},
    "cloudresourcemanager.googleapis.com": {"/v1/": "cloudresourcemanager.v1", "/v3/": "cloudresourcemanager.v3"},
    "secretmanager.googleapis.com": {"/v1/": "secretmanager.v1"},
    "cloudbilling.googleapis.com": {"/v1/": "cloudbilling.v1"},
    "iam.googleapis.com": {"/v1/": "iam.v1"},
    "iamcredentials.googleapis.com": {"/v1/": "iamcredentials.v1"},
    "sts.googleapis.com": {"/v1/": "sts.v1"},
    "networkservices.googleapis.com": {"/v1/": "networkservices.v1"},
    "monitoring.googleapis.com": {"/v3/": "monitoring.v3", "/v1/": "monitoring.v1"},
    "logging.googleapis.com": {"/v2/": "logging.v2"},
    "www.googleapis.com": {"/oauth2/": "oauth2.v2"},
}
# Names under which the same service answers.
ALIASES = {
    "compute.mtls.googleapis.com": "compute.googleapis.com",
    "container.mtls.googleapis.com": "container.googleapis.com",
}


class UnknownDocument(LookupError):
    """The installed package has no such document."""


def documents_folder() -> Path:
    """Folder of the documents, found without importing the package (that import costs half a second)."""
    spec = importlib.util.find_spec("googleapiclient")
    if spec is None or not spec.submodule_search_locations:
        raise UnknownDocument("google-api-python-client is not installed: the API documents come with it")
    return Path(next(iter(spec.submodule_search_locations))) / "discovery_cache" / "documents"


@dataclass(frozen=True)
class Document:
    """One discovery document."""

    name: str
    content: Json

    @cached_property
    def schemas(self) -> dict[str, Json]:
        schemas: dict[str, Json] = self.content.get("schemas", {})
        return schemas

    @cached_property
    def parameters(self) -> dict[str, Json]:
        """Query parameters that every method takes (alt, fields, key, ...)."""
        parameters: dict[str, Json] = self.content.get("parameters", {})
        return parameters

    @property
    def version(self) -> str:
        return str(self.content["version"])

    @property
    def api(self) -> str:
        return str(self.content["name"])


@dataclass(frozen=True)
class Method:
    """One API method. ``id`` is discovery's, for example ``compute.subnetworks.insert``."""

    document: Document
    spec: Json

    @property
    def id(self) -> str:
        return str(self.spec["id"])

    @property
    def verb(self) -> str:
        return str(self.spec["httpMethod"])

    @cached_property
    def query(self) -> dict[str, Json]:
        parameters = self.spec.get("parameters", {})
        return {name: value for name, value in parameters.items() if value.get("location") == "query"}

    @property
    def request(self) -> str | None:
        """Name of the request body's schema, None for a method without body."""
        reference = self.spec.get("request")
        return None if reference is None else str(reference["$ref"])

    @property
    def response(self) -> str | None:
        reference = self.spec.get("response")
        return None if reference is None else str(reference["$ref"])

    @cached_property
    def template(self) -> str:
        return f"/{self.document.content['servicePath']}{self.spec['path']}"

    @property
    def flat(self) -> str:
        """The path with every ``{+name}`` spelt out: ``/v1/projects/{projectsId}/locations/...``."""
        return f"/{self.document.content['servicePath']}{self.spec.get('flatPath', self.spec['path'])}"

    @cached_property
    def segments(self) -> int | None:
        """Number of path segments; None where a parameter may hold any number of them."""
        patterns = [str(value.get("pattern", "")) for value in self.spec.get("parameters", {}).values()]
        if any(re.search(r"(?<!\\)\.[*+]", pattern) for pattern in patterns):
            return None
        return None if "{+" in self.flat else self.flat.count("/")

    @cached_property
    def literal(self) -> int:
        """Length of the fixed text: the more, the more specific."""
        return len(re.sub(r"\{[^}]+\}", "", self.flat))

    @cached_property
    def _matcher(self) -> tuple[re.Pattern[str], list[str]]:
        parameters = self.spec.get("parameters", {})
        pieces, names, position = [], [], 0
        for found in re.finditer(r"\{(\+?)([^}]+)\}", self.template):
            pieces.append(re.escape(self.template[position : found.start()]))
            names.append(found.group(2))
            pattern = "[^/]+"
            if found.group(1):
                # The parameter's own pattern makes {+name} exact; its groups must not shift ours.
                own = str(parameters.get(found.group(2), {}).get("pattern", ".+")).removeprefix("^").removesuffix("$")
                pattern = re.sub(r"(?<!\\)\((?!\?)", "(?:", own)
            pieces.append(f"({pattern})")
            position = found.end()
        pieces.append(re.escape(self.template[position:]))
        return re.compile("".join(pieces)), names

    def match(self, path: str) -> dict[str, str] | None:
        """Path parameters of ``path`` (already unquoted), None where it is another method's."""
        pattern, names = self._matcher
        found = pattern.fullmatch(path)
        return None if found is None else dict(zip(names, found.groups(), strict=True))


class Router:
    """Finds methods by host, verb and path. Thread-safe."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._documents: dict[str, Document] = {}
        self._buckets: dict[str, dict[tuple[str, int | None], list[Method]]] = {}

    def document(self, name: str) -> Document:
        """Load (once) a document such as ``compute.v1``."""
        with self._lock:
            if name not in self._documents:
                path = (self._folder or documents_folder()) / f"{name}.json"
                if not path.is_file():
                    raise UnknownDocument(f"no discovery document {name}")
                document = Document(name, json.loads(path.read_text(encoding="utf-8")))
                buckets: dict[tuple[str, int | None], list[Method]] = {}
                for method in methods(document):
                    buckets.setdefault((method.verb, method.segments), []).append(method)
                for bucket in buckets.values():
                    bucket.sort(key=lambda method: -method.literal)
                self._documents[name], self._buckets[name] = document, buckets
            return self._documents[name]

    def find(self, host: str, verb: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method and its path parameters, None where Google would answer 404 "not found on this server"."""
        name = next((name for prefix, name in DOCUMENTS.get(host, {}).items() if path.startswith(prefix)), None)
        if name is None:
            return None
        self.document(name)
        clear = urllib.parse.unquote(path)
        buckets = self._buckets[name]
        for bucket in ((verb, clear.count("/")), (verb, None)):
            for method in buckets.get(bucket, ()):
                parameters = method.match(clear)
                if parameters is not None:
                    return method, parameters
        return None

    def method(self, document: str, identifier: str) -> Method:
        """A method by its id, for the tests and for responses made elsewhere."""
        for method in methods(self.document(document)):
            if method.id == identifier:
                return method
        raise LookupError(f"{document} has no method {identifier}")


def methods(document: Document) -> Iterator[Method]:
    """Every method of a document."""

    def walk(resource: Json) -> Iterator[Method]:
        for spec in resource.get("methods", {}).values():
            yield Method(document, spec)
        for child in resource.get("resources", {}).values():
            yield from walk(child)

    return walk(document.content)


def canonical(host: str, path: str) -> tuple[str, str]:
    """The host that owns a request: aliases, and www.googleapis.com/compute which old clients and selfLinks use."""
    host = ALIASES.get(host, host)
    if host == "www.googleapis.com" and path.startswith(("/compute/", "/batch/compute/")):
        return "compute.googleapis.com", path
    return host, path
