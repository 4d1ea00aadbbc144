# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the modules that ask an inference endpoint find it; the arguments are module_utils.inference.http's."""

from __future__ import annotations


class ModuleDocFragment:
    """Address, name and certificate of the endpoint."""

    DOCUMENTATION = r"""
options:
  base_url:
    description: Address of the endpoint, V(http://203.0.113.7).
    type: str
    required: true
  host_header:
    description: Host header to send, for routes that are bound to a hostname; with an https address also the name that
      the certificate is made out to.
    type: str
    default: ''
  validate_endpoint_certs:
    description: Check the endpoint's certificate, with an https address.
    type: bool
    default: true
  ca_file:
    description: CA certificates (PEM) to check it against, by default the system's.
    type: path
"""
