"""The report's page in a real browser: on a phone and on a screen, without sideways scrolling, drawn in time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.filter.report_page import report_page

from tests.unit.plugins.report_document import document

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--disable-dev-shm-usage",
]  # fmt: skip


def browse(page: Path, folder: Path, *more: str) -> str:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}", *more, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_real_browser_draws_it_without_sideways_scrolling(tmp_path: Path, width: int) -> None:
    """The page itself has no script; the test puts one into its copy that says how wide everything came out."""
    probe = """<script>
    const wide = document.documentElement.scrollWidth, shown = [...document.querySelectorAll('svg.topology')]
        .filter(one => getComputedStyle(one).display !== 'none').map(one => one.classList[1]).join();
    const beyond = [...document.querySelectorAll('section,.card,.track i,pre,code')]
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1).length;
    document.title = 'RESULT ' + JSON.stringify(
        {wide: wide, inner: innerWidth, shown: shown, beyond: beyond, took: Math.ceil(performance.now())});
    </script>"""
    page = tmp_path / "page.html"
    inner = tmp_path / "inner.html"
    inner.write_text(report_page(document()).replace("</body>", probe + "</body>"), encoding="utf-8")
    # A headless window is at least 500 wide; a frame can be as narrow as a phone.
    reader = "setTimeout(()=>{document.title=f.contentDocument.title;document.body.append(document.title)},300)"
    frame = f'<iframe id="f" src="inner.html" style="width:{width}px;height:900px;border:0" onload="{reader}"></iframe>'
    page.write_text(f"<body>{frame}", encoding="utf-8")
    started = time.monotonic()
    text = browse(
        page, tmp_path / "profile", "--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom"
    )
    found = re.search(r"RESULT (\{.*?\})", text)
    assert found, text[-2000:]
    values = dict(re.findall(r'"(\w+)":"?([\w]+)', found.group(1)))
    assert values["shown"] == ("tall" if width < 640 else "wide")
    assert int(values["wide"]) <= int(values["inner"]) == width
    assert values["beyond"] == "0"
    print(f"report at {width} px: rendered in {values['took']} ms; browser and all {time.monotonic() - started:.1f} s")


@pytest.mark.skipif(CHROMIUM is None or "LLMD_SCREENSHOTS" not in os.environ, reason="LLMD_SCREENSHOTS names no folder")
@pytest.mark.parametrize("size", ["1280,1500", "500,2600"])
def test_screenshots_for_a_person(tmp_path: Path, size: str) -> None:
    folder = Path(os.environ["LLMD_SCREENSHOTS"])
    page = tmp_path / "page.html"
    page.write_text(report_page(document()), encoding="utf-8")
    for dark in (False, True):
        name = folder / f"report-{size.partition(',')[0]}{'-dark' if dark else ''}.png"
        extra = ["--blink-settings=preferredColorScheme=0"] if dark else []
        browse(page, tmp_path / "profile", f"--window-size={size}", f"--screenshot={name}", *extra)
        assert name.stat().st_size > 10_000
