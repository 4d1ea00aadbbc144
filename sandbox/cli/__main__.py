"""Entry point, started by sandbox/sandbox with any Python >= 3.11."""

from __future__ import annotations

import sys
from pathlib import Path

# Started as a file, so that no PYTHONPATH has to be set that `exec` and `shell` would hand on.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
