"""Content keys, and folders that are there in whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sandbox.toolchain import content
from sandbox.toolchain.errors import ToolchainError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_key_does_not_depend_on_the_order_or_place_of_files(tmp_path: Path) -> None:
    one = [write(tmp_path / "a", "go.mod", "m"), write(tmp_path / "a", "go.sum", "s")]
    other = [write(tmp_path / "b", "go.sum", "s"), write(tmp_path / "b", "go.mod", "m")]
    assert content.content_key(one, "-trimpath") == content.content_key(other, "-trimpath")


@pytest.mark.parametrize(
    ("name", "text", "setting"),
    [("go.mod", "changed", "go1.26"), ("renamed", "m", "go1.26"), ("go.mod", "m", "go1.27")],
    ids=["content", "name", "setting"],
)
def test_key_changes_with(tmp_path: Path, name: str, text: str, setting: str) -> None:
    before = content.content_key([write(tmp_path / "a", "go.mod", "m")], "go1.26")
    assert content.content_key([write(tmp_path / "b", name, text)], setting) != before


def test_key_tells_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    one = [write(tmp_path / "1", "a", "xy"), write(tmp_path / "1", "b", "")]
    other = [write(tmp_path / "2", "a", "x"), write(tmp_path / "2", "b", "y")]
    assert content.content_key(one) != content.content_key(other)


def test_tree_key_ignores_compiled_python(tmp_path: Path) -> None:
    write(tmp_path / "images", "build.py", "1")
    before = content.tree_key([tmp_path / "images"])
    write(tmp_path / "images", "__pycache__/build.cpython-311.pyc", "x")
    assert content.tree_key([tmp_path / "images"]) == before
    write(tmp_path / "images", "deep/more.py", "2")
    assert content.tree_key([tmp_path / "images"]) != before


def test_build_folder_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "builds" / "helm-1"
    with content.build_folder(final, {"tool": "helm"}, "building helm") as folder:
        write(folder, "helm", "binary")
        assert not final.exists()
    assert (final / "helm").read_text() == "binary"
    assert content.is_complete(final)
    assert content.read_marker(final) == {"tool": "helm"}
    assert [path.name for path in final.parent.iterdir()] == ["helm-1"]


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with content.build_folder(tmp_path / "helm-1", {}, "building helm") as folder:
            write(folder, "helm", "half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_folder_of_a_killed_build_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / ".helm-1.4711.tmp", "helm", "half")  # killed before the move
    final = tmp_path / "helm-1"
    write(final, "helm", "no marker")
    assert not content.is_complete(final)
    with content.build_folder(final, {}, "building helm") as folder:
        assert list(folder.iterdir()) == []
        write(folder, "helm", "whole")
    assert (final / "helm").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["helm-1"]


def test_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ToolchainError, match="No space left on the disk while building helm") as caught,
        content.build_folder(tmp_path / "helm-1", {}, "building helm"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "LLMD_SANDBOX_CACHE" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_link_is_relative_and_replaced_in_one_step(tmp_path: Path) -> None:
    name = tmp_path / "bin" / "helm"
    for build in ("helm-1", "helm-2"):
        write(tmp_path / "builds" / build, "helm", build)
        content.link(name, tmp_path / "builds" / build / "helm")
        assert name.read_text() == build
    assert name.readlink() == Path("../builds/helm-2/helm")
    assert [path.name for path in name.parent.iterdir()] == ["helm"]
