"""Finding an interpreter that runs, past shims that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox.toolchain import pythons, venvs
from sandbox.toolchain.errors import ToolchainError
from sandbox.toolchain.pythons import Python
from sandbox.toolchain.runner import Result


def interpreter(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def answering(versions: dict[Path, str]) -> Callable[[Sequence[str]], Result]:
    """Programs of ``versions`` run and tell that version; all others are dead."""

    def answer(command: Sequence[str]) -> Result:
        path = Path(command[0])
        return Result(0, f"{versions[path]} {path}\n") if path in versions else Result(127, "command not found\n")

    return answer


def test_dead_shim_is_passed_over_for_the_newest_real_one(tmp_path: Path, fake_run: Any) -> None:
    shim = interpreter(tmp_path / ".pyenv" / "shims" / "python3.12")
    real = {
        interpreter(tmp_path / ".pyenv" / "versions" / version / "bin" / "python3.12"): version
        for version in ("3.12.1", "3.12.10", "3.12.9")
    }
    fake_run.answers.append(answering(real))
    environment = {"PATH": str(shim.parent), "HOME": str(tmp_path)}
    found = pythons.find("3.12", fake_run, environment)
    assert found is not None
    assert (found.version, found.series) == ("3.12.10", "3.12")
    assert [str(shim)] in [call[:1] for call in fake_run.calls]


def test_pyenv_root_of_the_environment_is_looked_at(tmp_path: Path, fake_run: Any) -> None:
    real = interpreter(tmp_path / "elsewhere" / "versions" / "3.12.4" / "bin" / "python3.12")
    fake_run.answers.append(answering({real: "3.12.4"}))
    environment = {"PATH": "", "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path / "elsewhere")}
    assert pythons.find("3.12", fake_run, environment) == Python(real, "3.12.4")


def test_interpreter_of_another_version_than_its_name_is_refused(tmp_path: Path, fake_run: Any) -> None:
    liar = interpreter(tmp_path / "bin" / "python3.12")
    fake_run.answers.append(answering({liar: "3.11.2"}))
    assert pythons.find("3.12", fake_run, {"PATH": str(liar.parent), "HOME": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("there", "series", "bundle"),
    [
        (["3.12", "3.11"], "", "requirements-ansible-2.21.txt"),
        (["3.11", "3.13"], "", "requirements-ansible-2.19.txt"),
        (["3.13"], "", "requirements-ansible-2.21.txt"),
        (["3.12", "3.11"], "2.19", "requirements-ansible-2.19.txt"),
    ],
)
def test_ansible_bundle_fits_the_python(
    monkeypatch: pytest.MonkeyPatch, fake_run: Any, there: list[str], series: str, bundle: str
) -> None:
    monkeypatch.setenv(venvs.ENV_SERIES, series)

    def find(wanted: str, *_: object) -> Python | None:
        return Python(Path(f"/python{wanted}"), f"{wanted}.1") if wanted in there else None

    monkeypatch.setattr(pythons, "find", find)
    venv = venvs.plan("ansible", fake_run)
    assert venv.requirements.name == bundle
    assert venv.requirements.is_file()


def test_no_python_at_all_names_the_way_out(monkeypatch: pytest.MonkeyPatch, fake_run: Any) -> None:
    monkeypatch.delenv(venvs.ENV_SERIES, raising=False)
    monkeypatch.setattr(pythons, "find", lambda *_: None)
    with pytest.raises(ToolchainError, match=r"No working Python 3\.11 or newer") as caught:
        venvs.plan("sandbox", fake_run)
    assert "apt-get install python3 python3-venv" in caught.value.remedy


def test_unknown_ansible_series_names_the_known_ones(monkeypatch: pytest.MonkeyPatch, fake_run: Any) -> None:
    monkeypatch.setenv(venvs.ENV_SERIES, "2.16")
    with pytest.raises(ToolchainError, match=r"2\.16") as caught:
        venvs.plan("ansible", fake_run)
    assert caught.value.remedy.startswith("set it to 2.19 or 2.21")
