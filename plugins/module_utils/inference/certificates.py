# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Until when a server's certificate is valid: read from what it really shows, with nothing installed."""

from __future__ import annotations

import datetime
import socket
import ssl
from urllib.parse import urlsplit

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError

SEQUENCE, EXPLICIT_VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def not_after(der: bytes) -> datetime.datetime:
    """The end of a certificate's validity (RFC 5280, 4.1). Raises ValueError for what is no certificate.

    Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version, serial, algorithm, issuer, validity SEQUENCE {from, to}, ...
    """
    tag, certificate = _element(der)[:2]
    tbs_tag, fields = _element(certificate)[:2]
    if (tag, tbs_tag) != (SEQUENCE, SEQUENCE):
        raise ValueError("not a certificate")
    tag, _first, rest = _element(fields)
    skip = 3 if tag == EXPLICIT_VERSION else 2  # serial number (already taken without a version), algorithm, issuer
    for _step in range(skip):
        rest = _element(rest)[2]
    tag, validity = _element(rest)[:2]
    if tag != SEQUENCE:
        raise ValueError("no validity where it must be")
    tag, text = _element(_element(validity)[2])[:2]
    forms = {UTC_TIME: "%y%m%d%H%M%SZ", GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
    if tag not in forms:
        raise ValueError("no time where it must be")
    moment = datetime.datetime.strptime(text.decode("ascii"), forms[tag]).replace(tzinfo=datetime.UTC)
    # two digits mean 1950 to 2049 here, which is not where strptime draws the line
    return moment.replace(year=moment.year + 100) if tag == UTC_TIME and moment.year < 1950 else moment


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first DER element, and what follows it."""
    if len(data) < 2:
        raise ValueError("cut off")
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        start = 2 + count
        if not 1 <= count <= 4 or len(data) < start:
            raise ValueError("cut off")
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("cut off")
    return tag, data[start : start + length], data[start + length :]


def shown_by(url: str, *, server_name: str = "", timeout: float = 10.0) -> bytes:
    """The certificate (DER) that an https address shows, valid or not.

    Raises ConfigurationError CERTIFICATE_URL_INVALID, InferenceError CERTIFICATE_UNREADABLE.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigurationError(
            f"{url!r} has no certificate.",
            code="CERTIFICATE_URL_INVALID",
            remedy="Give https://NAME or https://ADDRESS:PORT.",
        )
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # an expired certificate has to be read too; nothing is sent over it
    name = server_name or parts.hostname
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), timeout) as raw,
            context.wrap_socket(raw, server_hostname=name) as connection,
        ):
            shown = connection.getpeercert(binary_form=True)
    except OSError as error:
        raise unreadable(url, f"{type(error).__name__}: {error}") from error
    if not shown:
        raise unreadable(url, "the server showed none")
    return shown


def unreadable(url: str, why: str) -> InferenceError:
    """The error for a certificate that could not be had or understood."""
    return InferenceError(
        "The certificate of the endpoint could not be read.",
        code="CERTIFICATE_UNREADABLE",
        where=url,
        why=why,
        remedy="Check that the endpoint answers on https (playbooks/verify.yml).",
    )
