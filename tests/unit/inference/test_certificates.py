"""Our little reader of certificates against those that openssl makes, and against what is none."""

from __future__ import annotations

import datetime
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.inference.certificates import not_after, shown_by

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def make(folder: Path, *words: str) -> tuple[bytes, datetime.datetime]:
    """A certificate as DER, and its end in openssl's own words."""
    path = str(folder / "c.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=x", "-keyout", str(folder / "k.pem"), "-out", path, *words],
        check=True, capture_output=True,
    )  # fmt: skip
    told = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-enddate"], capture_output=True, text=True, check=True
    ).stdout
    end = datetime.datetime.strptime(told.strip().removeprefix("notAfter="), "%b %d %H:%M:%S %Y %Z")
    return ssl.PEM_cert_to_DER_cert(Path(path).read_text()), end.replace(tzinfo=datetime.UTC)


@needs_openssl
@pytest.mark.parametrize("days", ["2", "3000", "12000", "40000"])  # beyond 2049 the time is written another way
@pytest.mark.parametrize("kind", [["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], ["rsa:2048"]])
def test_the_end_is_what_openssl_says(tmp_path: Path, days: str, kind: list[str]) -> None:
    der, end = make(tmp_path, "-days", days, "-newkey", *kind)
    assert not_after(der) == end


@needs_openssl
def test_what_is_cut_off_or_something_else_is_refused(tmp_path: Path) -> None:
    der, _unused = make(tmp_path, "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    for broken in (b"", b"\x30", der[:40], b"\x04" + der[1:], b"\x30\x03\x30\x01\x00"):
        with pytest.raises(ValueError, match=r"cut off|certificate|must be"):
            not_after(broken)


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://127.0.0.1:1", "CERTIFICATE_URL_INVALID"), ("https://127.0.0.1:1", "CERTIFICATE_UNREADABLE")],
)
def test_what_has_no_certificate_is_told(url: str, code: str) -> None:
    with pytest.raises(LlmdError) as caught:
        shown_by(url, timeout=5)
    assert caught.value.code == code
