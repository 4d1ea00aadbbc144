"""Stand-in for what GKE runs beside a cluster: managed CRDs, Gateway controller, load balancer, autoscaler.

See README.md.
"""

from __future__ import annotations

from sandbox.gke.autoscaler import Autoscalers, make_autoscalers
from sandbox.gke.manager import Controllers, make_controllers

__all__ = ["Autoscalers", "Controllers", "make_autoscalers", "make_controllers"]
