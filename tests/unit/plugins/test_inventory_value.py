"""What the inventory itself says, without a run's extra variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.llmd.gke.plugins.lookup.inventory_value import LookupModule


@pytest.fixture
def known(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "hosts.yml").write_text("llmd: {hosts: {one: {llmd_replicas: 2}, two: {}}}\n")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/llmd.yml").write_text("llmd_replicas: 1\nllmd_model: '{{ other }}'\n")
    # What a run's extra variables make of it is not asked.
    return {"ansible_inventory_sources": [str(tmp_path / "hosts.yml")], "llmd_replicas": 9}


def ask(known: dict[str, Any], host: str, *names: str) -> list[Any]:
    return LookupModule(loader=DataLoader()).run(list(names), {**known, "inventory_hostname": host})


def test_a_host_goes_before_its_group(known: dict[str, Any]) -> None:
    assert ask(known, "one", "llmd_replicas") == [2]
    assert ask(known, "two", "llmd_replicas") == [1]


def test_templates_stay_and_what_is_not_there_is_nothing(known: dict[str, Any]) -> None:
    assert ask(known, "two", "llmd_model", "llmd_gpu") == ["{{ other }}"]
    assert ask(known, "three", "llmd_replicas") == []
