"""What the written documents name is there: links, playbooks, variables, error codes."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# The built archive has neither of them, and its tests run there too.
LEFT_OUT = () if (ROOT / "Makefile").is_file() else ("sandbox", "gates", "awx")
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# The C one, where it was built, is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# An example of a misspelt variable, and what is no variable: facts handed from job to job, names of workflows.
NO_VARIABLES = re.compile(r"llmd_zon|llmd_gke_\w+|llmd_deploy")

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PLAYBOOK = re.compile(r"\bplaybooks/([a-z0-9_]+\.yml)")
SHARED = re.compile(r"(?<![\w./-])llmd_[a-z0-9]\w*(?<!_)(?![\w*])")
GIVEN = re.compile(r"-e '?\{?\"?([a-z_]+)\"?[=:]")
YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"(?:`|^)make ([a-z-]+)", re.MULTILINE)
OWN = re.compile(r"`([a-z]\w*_\w+)[:=`.]")
WORD = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b")
CODE = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")


def called(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=called)


@functools.cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def anchors(path: Path) -> set[str]:
    """Anchors as they are made of headings: small letters, no punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text_of(path))}


def loaded(path: Path) -> dict[str, Any]:
    return yaml.load(text_of(path), Loader=LOADER) or {}


@functools.cache
def role_variables() -> set[str]:
    """Every variable that a role has a default or a specification for, or that the example inventory lists."""
    names: set[str] = set()
    for role in ROLES:
        for part in ("defaults", "vars"):
            for path in (ROOT / "roles" / role / part).glob("*.yml"):
                names |= set(loaded(path))
        specification = loaded(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
        for entry in specification.values():
            names |= set(entry.get("options") or {})
    for path in (ROOT / "inventories/example").rglob("*.yml"):
        names |= set(re.findall(r"^(?:# )?(llmd_\w+):", text_of(path), re.MULTILINE))
    return names


@functools.cache
def known_codes() -> set[str]:
    """Every word in capitals of the code and of the tables of errors."""
    places = [ROOT / "plugins", ROOT / "roles", ROOT / "docs/errors"]
    files = [path for place in places for path in place.rglob("*.*") if path.suffix in (".py", ".yml", ".j2", ".md")]
    return {word for path in files for word in WORD.findall(text_of(path))}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(text_of(document)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _unused, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[:1] in {(part,) for part in LEFT_OUT}:
            continue
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@each_document
def test_playbooks_are_there(document: Path) -> None:
    for name in PLAYBOOK.findall(text_of(document)):
        assert (ROOT / "playbooks" / name).is_file(), name


@each_document
def test_variables_are_read_by_a_role(document: Path) -> None:
    text = text_of(document)
    shared = {name for name in SHARED.findall(text) if not NO_VARIABLES.fullmatch(name) and name not in ROLES}
    given = {name for name in GIVEN.findall(text) if not NO_VARIABLES.fullmatch(name) and not name.startswith("awx_")}
    # A variable of a role begins as the role is called; so do names of modules and files.
    own = {name for name in OWN.findall(text) if name.startswith(tuple(f"{role}_" for role in ROLES))}
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    own = {name for name in own - modules - set(ROLES) if not NO_VARIABLES.fullmatch(name)}
    assert sorted((shared | given | own) - role_variables()) == []


@each_document
def test_error_codes_are_known(document: Path) -> None:
    if document.is_relative_to(ROOT / "docs/errors"):  # tests of their own compare these with the code
        return
    assert sorted(set(CODE.findall(text_of(document))) - known_codes()) == []


@each_document
def test_blocks_of_yaml_can_be_read(document: Path) -> None:
    for block in YAML_BLOCK.findall(text_of(document)):
        assert isinstance(yaml.load(block, Loader=LOADER), dict | list), block


@pytest.mark.skipif(bool(LEFT_OUT), reason="the built archive has no Makefile")
@each_document
def test_make_targets_are_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert sorted(set(TARGET.findall(text_of(document))) - targets) == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs/README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(text_of(index))}
    pages = set((ROOT / "docs").rglob("*.md")) - {index}
    assert sorted(called(path) for path in pages - linked) == []


def test_readme_names_every_playbook_and_role() -> None:
    readme = text_of(ROOT / "README.md")
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    missing = sorted(name for name in playbooks | set(ROLES) if not re.search(rf"\b{name}\b", readme))
    assert missing == []


def test_the_example_inventory_lists_every_variable() -> None:
    options = set(loaded(ROOT / "roles/llmd/meta/argument_specs.yml")["argument_specs"]["main"]["options"])
    listed = re.findall(r"^(?:# )?(llmd_\w+):", text_of(ROOT / "inventories/example/group_vars/llmd.yml"), re.MULTILINE)
    assert sorted(options - set(listed)) == []


def test_the_changelog_is_the_same_in_both_forms() -> None:
    """changelogs/ is what antsibull reads, CHANGELOG.md what people read: the same entries, the same words."""
    releases = loaded(ROOT / "changelogs/changelog.yaml")["releases"]
    sections = [changes for release in releases.values() for changes in release["changes"].values()]
    told = [entry for entries in sections for entry in ([entries] if isinstance(entries, str) else entries)]
    blocks = re.split(r"\n(?=- )|\n\n", text_of(ROOT / "CHANGELOG.md"))
    read = [block for block in blocks if block.strip() and not block.startswith("#")]

    def plain(text: str) -> str:
        return " ".join(text.removeprefix("- ").replace("`", "").split())

    assert sorted(map(plain, read)) == sorted(map(plain, told))
