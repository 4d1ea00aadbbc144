"""Prometheus metrics under the body-based router's names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest

from sandbox.images.endpoint_picker.metrics import CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]


class Metrics:
    """Three counters in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.success = Counter("bbr_success", "Model names put into headers.", registry=self.registry)
        self.absent = Counter("bbr_model_not_in_body", "Bodies without a model.", registry=self.registry)
        self.unparsed = Counter("bbr_model_not_parsed", "Models that are no text.", registry=self.registry)

    def exposition(self) -> bytes:
        """The text of ``/metrics``."""
        return generate_latest(self.registry)
