# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way a module that talks to a cluster runs and ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, fail


def run(
    module: Any, work: Callable[[], dict[str, Any]], on_failure: Callable[[], Mapping[str, Any]] | None = None
) -> NoReturn:
    """Do the work and end the module: its result, or an error of the tree with what ``on_failure`` adds to it."""
    try:
        result = work()
    except LlmdError as error:
        fail(module, error, **(on_failure() if on_failure else {}))
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)
    raise SystemExit(0)  # exit_json has ended the process; this says so to the type checker
