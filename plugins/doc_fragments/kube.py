# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that talk to a cluster have in common, beside kubernetes.core's authentication options."""

from __future__ import annotations


class ModuleDocFragment:
    """Used together with the fragment kubernetes.core.k8s_auth_options, which documents the options themselves."""

    DOCUMENTATION = r"""
options: {}
requirements:
  - python >= 3.11
  - kubernetes >= 24.2.0
  - PyYAML >= 3.11
notes:
  - Options for access to the cluster are those of kubernetes.core, with the same environment names (K8S_AUTH_*);
    M(llmd.gke.gke_credentials) returns what they need.
  - Passing trouble of the API server (throttling, restarts) does not end a wait.
  - A failure carries C(error) with a stable code, what happened, where, why, and what to do.
"""
