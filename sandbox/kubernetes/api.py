"""A small client of one API server: JSON over HTTPS with a client certificate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

Object = dict[str, Any]
TIMEOUT = (3.0, 15.0)  # seconds to connect, to answer


class ApiError(RuntimeError):
    """The API server refused; ``status`` is the HTTP status."""

    def __init__(self, method: str, path: str, status: int, message: str) -> None:
        super().__init__(f"{method} {path}: {status}: {message}")
        self.status = status


class ApiClient:
    """Requests as whoever the certificate names. Used from several threads: every request has its own connection."""

    def __init__(self, server: str, ca_file: Path, cert_file: Path, key_file: Path) -> None:
        self._server = server
        self._ca = str(ca_file)
        self._certificate = (str(cert_file), str(key_file))

    def raw(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> requests.Response:
        """One request; any status is returned. Raises requests' own errors when nobody answers."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy of the caller's environment
            return session.request(
                method,
                self._server + path,
                json=body,
                headers={"Content-Type": content_type} if body is not None else None,
                verify=self._ca,
                cert=self._certificate,
                timeout=TIMEOUT,
            )

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Object:
        """One request whose answer must be a success; its JSON."""
        answer = self.raw(method, path, body, content_type)
        if answer.status_code >= 400:
            try:
                message = str(answer.json().get("message", answer.text))
            except ValueError:
                message = answer.text
            raise ApiError(method, path, answer.status_code, message)
        result: Object = answer.json()
        return result

    def get(self, path: str) -> Object | None:
        """The object at ``path``, or None where there is none."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, collection: str, body: Mapping[str, Any]) -> None:
        """Create an object; one of that name that is there already stays as it is."""
        try:
            self.call("POST", collection, body)
        except ApiError as error:
            if error.status != 409:
                raise

    def merge(self, path: str, patch: Mapping[str, Any]) -> Object:
        """JSON merge patch."""
        return self.call("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, path: str, options: Mapping[str, Any] | None = None) -> None:
        """Delete an object; an absent one is no error."""
        try:
            self.call("DELETE", path, options)
        except ApiError as error:
            if error.status != 404:
                raise

    def ready(self) -> bool:
        """Whether /readyz says ok; False while nobody listens."""
        try:
            return self.raw("GET", "/readyz").status_code == 200
        except requests.RequestException:
            return False


def wait_for(condition: Callable[[], bool], *, timeout: float, interval: float = 0.1) -> bool:
    """Ask ``condition`` every ``interval`` seconds until it is true (True) or ``timeout`` seconds are over (False)."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
