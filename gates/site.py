"""``make docs``: one site of the guides, the READMEs and the pages of every module, plugin and role."""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import yaml

from gates import artifact
from gates.running import GateError, Tools
from sandbox.paths import REPOSITORY

TITLE = "llmd.gke"
# Guides in the order in which people need them, then whatever else there is.
FIRST = ("README.md", "docs/first-hour.md", "docs/from-the-runbook.md", "docs/README.md")
_PLACES = (
    *("*.md", "docs/**/*.md", "roles/*/README.md", "awx/README.md", "gates/README.md", "sandbox/README.md"),
    "sandbox/*/README.md",
    "extensions/molecule/README.md",
)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_CONF = """\
project = {title!r}
author = "llmd.gke contributors"
version = release = {version!r}
extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {{".md": "markdown", ".rst": "restructuredtext"}}
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {{"fixed_sidebar": True, "page_width": "68rem", "sidebar_width": "16rem"}}
html_title = "llmd.gke {version}"
html_show_sourcelink = False
myst_heading_anchors = 4
# Blocks of a shell have no language here, and are no Python.
highlight_language = "none"
# A page may be reached by links alone; that every guide is reached, a test of the documents sees to.
suppress_warnings = ["toc.not_included"]


def without_link(app, env, node, contnode):
    # Ansible's own documentation is not reached here: its labels are words without a link. Ours must be there.
    ours = node.get("reftype") != "ref" or node["reftarget"].startswith("ansible_collections.llmd.gke.")
    return None if ours else contnode


def setup(app):
    app.connect("missing-reference", without_link)
"""


def pages(root: Path) -> list[str]:
    """Every Markdown page of the site, by its path in the checkout."""
    found = {path.relative_to(root).as_posix() for place in _PLACES for path in root.glob(place)}
    return [*(name for name in FIRST if name in found), *sorted(found - set(FIRST))]


def with_links(text: str, page: str, on_site: Iterable[str], repository: str) -> str:
    """The page with links to what the site does not hold (code, folders) turned to the repository's own address."""
    there = set(on_site)

    def target(found: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page), found.group(1)))
        if name in there:
            return found.group(1)
        return f"{repository}/blob/main/{name}"

    # Only prose: what looks like a link inside a block of code is none.
    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(target, part) for part in parts)


def index(names: Iterable[str]) -> str:
    """The first page: the README, and the ways to everything."""
    listed = list(names)

    def toctree(caption: str, entries: Iterable[str]) -> str:
        rows = "\n".join(entry.removesuffix(".md") for entry in entries)
        return f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n\n{rows}\n```\n"

    guides = [name for name in listed if "/" not in name or name.startswith("docs/")]
    roles = [name for name in listed if name.startswith("roles/")]
    rest = [name for name in listed if name not in (*guides, *roles)]
    trees = [
        toctree("Guides", guides),
        toctree("Modules and plugins", ["collections/llmd/gke/index"]),
        toctree("Roles", roles),
        toctree("Around it", rest),
    ]
    return f"# {TITLE}\n\n" + "\n".join(trees)


def _write_sources(source: Path) -> list[str]:
    """Copy the pages and what they show into ``source``; their names."""
    galaxy = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text(encoding="utf-8"))
    names = pages(REPOSITORY)
    pictures = [path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.*g")]
    for name in pictures:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, source / name)
    for name in names:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(with_links(text, name, [*names, *pictures], galaxy["repository"]), encoding="utf-8")
    (source / "conf.py").write_text(_CONF.format(title=TITLE, version=galaxy["version"]), encoding="utf-8")
    (source / "index.md").write_text(index(names), encoding="utf-8")
    return names


def build(tools: Tools, output: Path) -> Path:
    """Build the site into ``output`` (emptied first). A page that is broken, or a link that leads nowhere, is an error.

    Returns the first page. Raises ``GateError`` with Sphinx's own words.
    """
    with tempfile.TemporaryDirectory(prefix="llmd-site-") as name:
        folder = Path(name)
        source = folder / "source"
        source.mkdir()
        _write_sources(source)
        artifact.tree(tools, folder / "tree")
        path = tools.environment("lint", "core-2.21")["PATH"]  # antsibull-docs calls ansible-doc
        environment = {"PATH": path, "ANSIBLE_COLLECTIONS_PATH": str(folder / "tree"), "HOME": name}
        command = ["antsibull-docs", "collection", "--use-current", "--fail-on-error", "--dest-dir", str(source)]
        command.append("--no-breadcrumbs")
        tools.must("lint", [*command, f"{artifact.NAMESPACE}.{artifact.NAME}"], environment=environment)
        made = folder / "html"
        words = ["sphinx-build", "-q", "-W", "--keep-going", "-j", "auto", "-b", "html", str(source), str(made)]
        tools.must("lint", words, environment=environment)
        first = made / "index.html"
        if not first.is_file() or not list(made.rglob("gke_cluster_module.html")):
            raise GateError("The site was built without its first page or without the modules' pages.")
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, output)
    return output / "index.html"
