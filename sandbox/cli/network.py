"""Reach into the fabric namespace from the host without starting a program there."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sandbox.paths import API_ADDRESS, API_PORT, Paths

NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def namespace_file(name: str) -> Path:
    return NETNS / name


def enter(namespace: Path) -> None:
    """Move the calling *thread* into a network namespace: sockets that it makes from now on belong there.

    OSError where the namespace is gone or the caller is not root. (os.setns came with Python 3.12 only.)
    """
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {namespace}: {os.strerror(number)}")
    finally:
        os.close(descriptor)


def inside(namespace: Path, action: Callable[[], T]) -> T:
    """Run ``action`` in a thread of its own within the namespace; its result or exception."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            enter(namespace)
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class ControlError(Exception):
    """The daemon answered with an error; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def control(paths: Paths, method: str, path: str, body: Any = None, *, timeout: float = 5.0) -> Any:
    """Call ``/control/PATH`` of the daemon; the decoded JSON answer (None for an empty one).

    OSError where nothing answers, ``ControlError`` for an HTTP error.
    """
    namespace = namespace_file(paths.fabric)

    def call() -> Any:
        connection = http.client.HTTPConnection(API_ADDRESS, API_PORT, timeout=timeout)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if payload else {}
            connection.request(method, f"/control/{path}", payload, headers)
            response = connection.getresponse()
            data = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"no proper answer: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ControlError(response.status, _message(data) or f"HTTP {response.status} {response.reason}")
        return json.loads(data) if data.strip() else None

    return inside(namespace, call)


def _message(data: bytes) -> str:
    """The human part of an error answer: Google's form, a plain ``message``, or the text itself."""
    try:
        found = json.loads(data)
    except ValueError:
        return data.decode(errors="replace").strip()[:500]
    error = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(error, dict):
        error = error.get("message", error)
    return str(error)


def is_free(port: int) -> bool:
    """Whether the host's loopback port can be taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
