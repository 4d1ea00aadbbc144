"""Stand-in for what GKE runs beside a cluster: managed CRDs, Gateway controller, load balancer. See README.md."""

from __future__ import annotations

from sandbox.gke.manager import Controllers, make_controllers

__all__ = ["Controllers", "make_controllers"]
