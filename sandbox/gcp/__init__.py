"""Stand-in for the Google Cloud APIs that a GKE deployment touches. See README.md for what it copies.

The border to whoever runs clusters is ``sandbox.gcp.backend``; importing it does not load the APIs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.gcp.credentials import write_credentials
    from sandbox.gcp.emulator import Emulator
    from sandbox.gcp.server import serve
    from sandbox.gcp.world import World

__all__ = ["Emulator", "World", "serve", "write_credentials"]

_HOMES = {"Emulator": "emulator", "World": "world", "serve": "server", "write_credentials": "credentials"}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"sandbox.gcp.{_HOMES[name]}"), name)
