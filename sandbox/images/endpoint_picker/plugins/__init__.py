"""Scheduling plugins. Importing this package registers all of them."""

from __future__ import annotations

from sandbox.images.endpoint_picker.plugins import disaggregation, labels, lora, pickers, precise, prefix, scorers
from sandbox.images.endpoint_picker.plugins.base import REGISTRY

__all__ = ["REGISTRY", "disaggregation", "labels", "lora", "pickers", "precise", "prefix", "scorers"]
