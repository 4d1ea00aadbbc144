"""Stand-in for the Hugging Face hub: token and licence checks and small JSON files, no weights."""

from __future__ import annotations

from sandbox.hub.server import Hub, serve

__all__ = ["Hub", "serve"]
