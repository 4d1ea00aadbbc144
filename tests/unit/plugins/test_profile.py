"""The profile lookup, and that what ships is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.llmd.gke.plugins.lookup.profile import SHIPPED, read_profile


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yml")), ids=lambda path: path.stem)
def test_every_shipped_profile_is_whole(path: Path) -> None:
    profile = read_profile(path.stem)
    assert profile["name"] == path.stem
    charts = {"helmfile": {"infra", "gaie", "ms", "bbr", "lws"}, "router": {"router"}}
    assert set(profile["charts"]) == charts[profile["layout"]]
    for crd in profile["crds"]:
        assert len(crd["sha256"]) == 64
        assert crd["file"].endswith(".yaml")
    assert profile["crd_url"].startswith("https://")


def test_an_unknown_profile_names_those_that_exist() -> None:
    with pytest.raises(AnsibleError, match=r"(?s)PROFILE_UNKNOWN.*llm-d-0\.4.*What now"):
        read_profile("main")


def test_a_file_of_ones_own_must_be_whole(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yml"
    mine.write_text(yaml.safe_dump({"name": "mine"}), encoding="utf-8")
    with pytest.raises(AnsibleError, match=r"PROFILE_INVALID.*charts"):
        read_profile(str(mine))
