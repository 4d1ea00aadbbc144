"""Runs one module of ours in a process of its own, to be killed. Not a test: test_killed_runs.py starts it.

Usage: python killed_worker.py MODULE, the options as JSON on standard input.
"""

from __future__ import annotations

import importlib
import json
import sys

from ansible.module_utils.testing import patch_module_args


def main() -> None:
    module = importlib.import_module(f"ansible_collections.llmd.gke.plugins.modules.{sys.argv[1]}")
    with patch_module_args(json.load(sys.stdin)):
        module.main()


if __name__ == "__main__":
    main()
