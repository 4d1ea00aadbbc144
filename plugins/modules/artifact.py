#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Keep or remove a file of a run on the control node
version_added: 0.1.0
description:
  - Writes what a run found (a verdict, a report) as a JSON or text file on the control node, or removes such a file.
  - It is an action without a module process, some twenty milliseconds where M(ansible.builtin.copy) needs a second.
  - The record of a run is no change of a deployment, so RV(ignore:changed) is always false.
author:
  - The llmd.gke contributors (@llmd-gke)
attributes:
  check_mode:
    support: full
    description: In check mode nothing is written or removed.
  diff_mode:
    support: none
    description: The record of a run has no meaningful difference.
options:
  path:
    description: The file. Its folder is made where it is missing, readable by its owner only.
    type: path
    required: true
  content:
    description: What to write. A string is written as it is, anything else as JSON.
    type: raw
  mode:
    description: Permissions of the file.
    type: str
    default: '0644'
  state:
    description: Whether to write the file or to remove it.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: ansible.builtin.copy
"""

EXAMPLES = r"""
- name: Keep the verdict as a file
  llmd.gke.artifact:
    path: "{{ llmd_artifacts_dir }}/verify.json"
    content: "{{ verify_result }}"
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /home/me/.llmd/pattern1/verify.json
"""
