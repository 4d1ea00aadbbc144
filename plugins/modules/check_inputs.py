#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_inputs
short_description: Check Ansible and the variables before anything is done
version_added: 0.1.0
description:
  - Fails where this ansible-core or Python is too old for the collection, or a collection that it needs is missing; the
    message names the command that installs it.
  - Fails where a variable was misspelt (V(llmd_zon)), given as an empty text though it must not be empty, as a text
    that is no number, or as a text where a dictionary or list is needed; surveys and C(-e name=value) only give texts.
  - Fails where two hosts of the play would work on the same cluster, or share a name or a folder.
  - Warns of extra variables that begin with V(llmd_) and that nothing reads.
  - It is an action without a module process. The role C(llmd) runs it, hence every playbook does.
author:
  - The llmd.gke contributors (@llmd-gke)
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
options: {}
"""

EXAMPLES = r"""
- name: Check what was given
  llmd.gke.check_inputs:
"""

RETURN = r"""
"""
