# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options shared by the modules that talk to a cluster."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC


def kube_argument_spec(**own: Any) -> dict[str, Any]:
    """kubernetes.core's authentication options plus a module's own."""
    spec: dict[str, Any] = deepcopy(dict(AUTH_ARG_SPEC))
    spec.update(own)
    return spec
