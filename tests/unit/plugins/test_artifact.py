"""Files of a run: whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.action.artifact import write


def test_data_is_json_and_text_is_itself(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b.json", {"ok": True}, 0o644)
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"ok": True}
    write(tmp_path / "plain.txt", "as it is", 0o600)
    assert (tmp_path / "plain.txt").read_text() == "as it is"
    assert (tmp_path / "plain.txt").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "verdict.json"
    write(target, {"first": 1}, 0o644)
    with pytest.raises(TypeError):
        write(target, {"bad": object()}, 0o644)
    assert json.loads(target.read_text()) == {"first": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["verdict.json"]
