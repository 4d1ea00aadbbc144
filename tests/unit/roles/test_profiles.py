"""Profiles are the one truth: whatever belongs to one version of llm-d stands in its profile and nowhere else.

What the roles render from each profile is rendered here, without a cluster, and given to the charts of that version.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.lookup.profile import SHIPPED, read_profile

ROOT = Path(__file__).resolve().parents[3]
PROFILES = [read_profile(path.stem) for path in sorted(SHIPPED.glob("*.yml"))]
PROSE = {"DOCUMENTATION", "EXAMPLES", "RETURN"}


def leaves(node: Any) -> set[str]:
    """Every text in a part of a profile, keys too."""
    if isinstance(node, dict):
        return {text for key, value in node.items() for text in {str(key)} | leaves(value)}
    if isinstance(node, list):
        return {text for value in node for text in leaves(value)}
    return {node} if isinstance(node, str) else set()


def literals(profile: dict[str, Any]) -> set[str]:
    """What only a profile may know: versions, addresses, images, sums, label keys, names of metrics and headers."""
    texts: set[str] = {str(profile.get("llmd_commit")), *profile["gke"].values(), profile["crd_url"]}
    for chart in profile["charts"].values():
        texts |= {chart["version"], chart["repository"]}
    for crd in profile["crds"]:
        texts |= {crd["name"], crd["file"], crd["sha256"]}
    texts |= {text for text in leaves(profile["labels"]) | leaves(profile["images"]) if "/" in text or ":" in text}
    texts |= {profile["picker"]["response_header"], profile["picker"]["request_counter"]}
    texts |= set(profile["picker"]["scorers"]) | set(profile["picker"]["metrics"].values())
    texts |= set(profile["model_server"]["metrics"].values())
    texts |= {text for text in leaves(profile["values"]) if ":" in text}
    return texts - {"None", ""}


def source(path: Path) -> str:
    """A file's text; of a plugin only what runs, since its documentation may show examples."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    kept = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Assign) and {getattr(target, "id", "") for target in node.targets} & PROSE)
    ]
    for node in ast.walk(ast.Module(kept, [])):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return "\n".join(ast.unparse(node) for node in kept)


def sources() -> dict[Path, str]:
    files = [path for folder in ("roles", "plugins") for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [path for path in files if path.suffix in (".py", ".yml", ".yaml", ".j2") and SHIPPED not in path.parents]
    # Rules and dashboards are metric names throughout; promtool and a real Prometheus prove those.
    return {path: source(path) for path in texts if not {"unit", "monitoring"} & set(path.parts)}


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: str(profile["name"]))
def test_no_other_file_knows_what_only_the_profile_may_know(profile: dict[str, Any]) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text}" for path, content in sources().items() for text in literals(profile)
        if text in content
    }  # fmt: skip
    assert found == set()


def test_the_search_would_find_one() -> None:
    profile = PROFILES[0]
    assert profile["picker"]["request_counter"] in literals(profile)
    assert any("llmd__profile.picker.request_counter" in text for text in sources().values())


def test_profiles_of_one_layout_have_the_same_sections() -> None:
    for profile in PROFILES[1:]:
        for section in PROFILES[0]:
            assert section in profile, (profile["name"], section)
