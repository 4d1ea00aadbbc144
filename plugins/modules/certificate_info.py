#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_info
short_description: Say until when the certificate of an endpoint is valid
version_added: 0.1.0
description:
  - Opens one TLS connection, reads the certificate that the server shows, valid or not, and sends nothing over it.
  - Needs nothing but Python.
  - A reader; it never reports a change.
options:
  url:
    description: The endpoint, such as V(https://llm.example.org). The path does not matter.
    type: str
    required: true
  server_name:
    description: Name to ask for (SNI), where it is not the one in O(url).
    type: str
    default: ""
  timeout:
    description: Seconds for the connection.
    type: float
    default: 10
attributes:
  check_mode:
    support: full
    description: Reads as always.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: See how long the certificate lasts
  llmd.gke.certificate_info:
    url: https://llm.example.org
  register: certificate
"""

RETURN = r"""
not_after:
  description: End of its validity (UTC).
  returned: success
  type: str
  sample: "2026-12-31T23:59:59+00:00"
timestamp:
  description: The same in seconds since 1970.
  returned: success
  type: int
  sample: 1798761599
days_left:
  description: Days until then, negative when it is over.
  returned: success
  type: float
  sample: 37.6
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: CERTIFICATE_UNREADABLE, what: "...", remedy: "..."}
"""

import datetime

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.inference.certificates import not_after, shown_by, unreadable


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "server_name": {"type": "str", "default": ""},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        der = shown_by(params["url"], server_name=params["server_name"], timeout=params["timeout"])
        try:
            end = not_after(der)
        except ValueError as error:
            raise unreadable(params["url"], str(error)) from error
    except LlmdError as problem:
        fail(module, problem, changed=False)
    left = (end - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400
    stamp = int(end.timestamp())
    module.exit_json(changed=False, not_after=end.isoformat(), timestamp=stamp, days_left=round(left, 2))


if __name__ == "__main__":
    main()
