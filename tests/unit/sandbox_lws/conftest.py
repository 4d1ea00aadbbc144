"""The sandbox is a package at the repository's root, whatever directory pytest was started in."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = str(Path(__file__).resolve().parents[3])
if REPOSITORY not in sys.path:
    sys.path.insert(0, REPOSITORY)
