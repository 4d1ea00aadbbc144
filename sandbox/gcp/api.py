"""What a handler of an API method gets, and where handlers are registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.gcp.discovery import Method
from sandbox.gcp.identity import Identity

if TYPE_CHECKING:
    from sandbox.gcp.emulator import Emulator
    from sandbox.gcp.operations import Operations
    from sandbox.gcp.world import World

Json = dict[str, Any]
# For requests that need no token (token endpoints).
ANONYMOUS = Identity("", frozenset(), "0", frozenset())


@dataclass(frozen=True)
class Call:
    """One validated, authenticated request. ``params`` come from the path, ``body`` is normalised JSON."""

    emulator: Emulator
    method: Method
    params: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Json
    identity: Identity

    @property
    def world(self) -> World:
        return self.emulator.world

    @property
    def operations(self) -> Operations:
        return self.emulator.operations

    def argument(self, name: str, default: str = "") -> str:
        """A query parameter's (last) value."""
        values = self.query.get(name)
        return values[-1] if values else default

    def flag(self, name: str) -> bool:
        return self.argument(name).lower() == "true"

    def allowed(self, permission: str) -> bool:
        """Whether the caller may do what needs this permission."""
        return self.world.permits(self.identity.email, permission, asked_by=self.method.id)


Handler = Callable[[Call], Json]
HANDLERS: dict[str, Handler] = {}


def handles(*identifiers: str) -> Callable[[Handler], Handler]:
    """Register a function for method ids; ``container.projects.locations.clusters.get`` also serves v1beta1."""

    def register(handler: Handler) -> Handler:
        for identifier in identifiers:
            if identifier in HANDLERS:
                raise ValueError(f"two handlers for {identifier}")
            HANDLERS[identifier] = handler
        return handler

    return register
