"""The command line when the sandbox is down, dead, or the person is not root; shapes for programs."""

from __future__ import annotations

import io
import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sandbox import processes
from sandbox.cli import environment, forward, logs, main, network, state, status, up
from sandbox.cli.errors import CliError
from sandbox.paths import REPOSITORY, Paths
from sandbox.processes import Process
from sandbox.toolchain.progress import Progress


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, paths: Paths, tmp_path: Path) -> Paths:
    """The sandbox that the environment names; no namespace of the machine is seen."""
    monkeypatch.setenv("LLMD_SANDBOX_NAME", paths.name)
    monkeypatch.setenv("LLMD_SANDBOX_CACHE", str(paths.cache))
    monkeypatch.setenv("LLMD_SANDBOX_STATE", str(paths.state.parent))
    monkeypatch.setattr(network, "NETNS", tmp_path / "netns")
    (tmp_path / "netns").mkdir()
    return paths


def record(paths: Paths, name: str, *, alive: bool) -> None:
    started = processes.start_time(os.getpid()) if alive else 1
    folder = state.folder(paths)
    folder.mkdir(parents=True, exist_ok=True)
    process = Process(name, os.getpid(), started or 0, str(paths.logs / f"{name}.log"))
    (folder / f"{name}.pid").write_text(json.dumps(asdict(process)), encoding="utf-8")


def bring_up(paths: Paths, *, alive: bool = True) -> None:
    """Files as a running sandbox leaves them; its daemon is this test process."""
    record(paths, state.DAEMON, alive=alive)
    (network.NETNS / paths.fabric).touch()
    state.write_record(paths, state.Record(str(REPOSITORY), "boot", 60.0, 0.0))


# --- environment ----------------------------------------------------------------------------------------------------


def test_environment_file_values_are_verbatim() -> None:
    text = "A=1\n# B=2\n\nC=a b = $HOME 'q'\nno assignment\n1D=x\nE=\n"
    assert environment.parse(text) == {"A": "1", "C": "a b = $HOME 'q'", "E": ""}


def test_inside_has_tools_first_and_no_proxy(paths: Paths) -> None:
    paths.state.mkdir(parents=True)
    paths.environment_file.write_text("HTTPS_PROXY=http://192.0.2.10\nX=1\n", encoding="utf-8")
    found = environment.inside(paths, {"PATH": "/bin", "http_proxy": "http://host", "HTTPS_PROXY": "http://host"})
    assert found == {
        "PATH": f"{paths.bin}:/bin",
        "HTTPS_PROXY": "http://192.0.2.10",
        "X": "1",
        "KUBECONFIG": str(paths.state / "kubeconfig"),
    }
    assert environment.inside(paths, {"KUBECONFIG": "/mine"})["KUBECONFIG"] == "/mine"


def test_daemon_is_told_which_sandbox_it_is(paths: Paths) -> None:
    found = environment.for_daemon(paths, {"PATH": "/bin", "no_proxy": "x"})
    assert found["LLMD_SANDBOX_NAME"] == "unit"
    assert found["LLMD_SANDBOX_STATE"] == str(paths.state.parent)
    assert found["PYTHONPATH"] == str(REPOSITORY)
    assert "no_proxy" not in found


# --- condition and status -------------------------------------------------------------------------------------------


def test_conditions(here: Paths) -> None:
    assert state.condition(here) == state.DOWN
    bring_up(here)
    assert state.condition(here) == state.UP
    state.record_file(here).unlink()
    assert state.condition(here) == state.STARTING
    record(here, state.DAEMON, alive=False)
    assert state.condition(here) == state.DEAD


def test_namespace_alone_means_dead(here: Paths) -> None:
    (network.NETNS / "unit-cp1").touch()
    (network.NETNS / "unit-other").touch()
    (network.NETNS / "unit2-fabric").touch()
    assert state.namespaces(here) == ["unit-cp1"]
    assert state.condition(here) == state.DEAD


def test_status_json_when_down(here: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "down"
    assert found["clusters"] == []
    assert found["processes"] == []
    assert found["memory_mb"] == 0
    assert set(found) == set(status.Status.__dataclass_fields__)


@pytest.mark.parametrize("clusters", [[{"name": "p/z/c"}], {"p/z/c": {}}], ids=["list", "mapping"])
def test_status_passes_on_what_the_daemon_tells(
    here: Paths, monkeypatch: pytest.MonkeyPatch, clusters: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bring_up(here)
    answer = {"speed": 0, "clusters": clusters, "gateways": [{"name": "g", "address": "203.0.113.1"}]}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(network, "control", lambda *_, **__: answer)
    monkeypatch.setattr(state, "members", lambda _: {os.getpid()})
    assert main.main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["speed"], found["clusters"]) == ("up", 0, [{"name": "p/z/c"}])
    assert found["processes"][0]["memory_mb"] > 0
    assert main.main(["status"]) == 0
    text = capsys.readouterr().out
    assert "everything at once" in text
    assert "g  address 203.0.113.1" in text


def test_status_of_a_silent_daemon(here: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise OSError("timed out")

    bring_up(here)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(network, "control", silent)
    assert "does not answer: timed out" in status.render(status.gather(here))


def test_dead_sandbox_is_told(here: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    bring_up(here, alive=False)
    assert main.main(["status"]) == 1
    assert "its daemon is gone" in capsys.readouterr().out


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["exec", "true"], ["shell"], ["speed", "1"], ["fault", "list"], ["logs"], ["logs", "--list"]]
)
def test_commands_when_down(here: Paths, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 3
    error = capsys.readouterr().err
    assert "The sandbox 'unit' is not up." in error
    assert "./sandbox/sandbox up" in error


def test_commands_when_dead(here: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    bring_up(here, alive=False)
    assert main.main(["exec", "true"]) == 3
    assert "is dead" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["up"], ["down"], ["exec", "true"], ["fault", "clear"]])
def test_commands_of_others_than_root(
    here: Paths, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bring_up(here)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main.main(words) == 1
    assert "Only root can" in capsys.readouterr().err


def test_down_when_down_is_fine_for_everyone(here: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main.main(["down"]) == 0


def test_down_says_what_resists(
    here: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bring_up(here)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(up, "take_down", lambda _: ["mount /x"])
    assert main.main(["down"]) == 1
    assert "mount /x" in capsys.readouterr().err


def test_bad_name_and_bad_numbers(
    here: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["up", "--speed", "-1"], ["up", "--port", "70000"], ["speed", "fast"]):
        with pytest.raises(SystemExit):
            main.main(words)
    capsys.readouterr()
    monkeypatch.setenv("LLMD_SANDBOX_NAME", "Not-A-Name")
    assert main.main(["status"]) == 1
    assert "1 to 8 lowercase letters" in capsys.readouterr().err


def test_exec_without_command(here: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["exec"]) == 2
    assert "No command given" in capsys.readouterr().err


def test_stopped_up_tells_how_to_go_on(
    here: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "up", stopped)
    assert main.main(["up"]) == 130
    assert "goes on from here" in capsys.readouterr().err


# --- steering -------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(here: Paths, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []

    def control(_: Paths, method: str, path: str, body: Any = None, **__: Any) -> Any:
        seen.append((method, path, body))
        return {"speed": 60}

    bring_up(here)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(network, "control", control)
    return seen


def test_fault_words_go_to_the_daemon(calls: list[tuple[Any, ...]]) -> None:
    assert main.main(["fault", "plant", "api", "503", "x3", "a.b.c"]) == 0
    assert main.main(["fault", "clear", "3"]) == 0
    assert calls == [("POST", "faults", {"words": ["api", "503", "x3", "a.b.c"]}), ("DELETE", "faults/3", None)]


def test_speed(calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["speed"]) == 0
    assert main.main(["speed", "0"]) == 0
    assert capsys.readouterr().out == "speed 60: a minute takes 1 s\nspeed 0: everything at once\n"
    assert calls[1] == ("POST", "speed", {"speed": 0.0})


def test_refusal_of_the_daemon(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise network.ControlError(400, "unknown fault 'bad'")

    monkeypatch.setattr(network, "control", refuse)
    assert main.main(["fault", "plant", "bad"]) == 2
    assert capsys.readouterr().err == "error: unknown fault 'bad'\n"


def test_up_when_up_keeps_it(here: Paths, calls: list[tuple[Any, ...]]) -> None:
    said = io.StringIO()
    up._already_up(here, 10.0, Progress(said, terminal=False))
    assert [call[:2] for call in calls] == [("GET", "status"), ("POST", "speed")]
    assert "is up already" in said.getvalue()


# --- logs, forwarder, interpreter -----------------------------------------------------------------------------------


def test_logs_by_name(here: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("logs/daemon.log", "clusters/1/kubelet.log", "clusters/2/kubelet.log", "clusters/1/etcd.log"):
        path = here.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"1\n2\n{name}\n", encoding="utf-8")
    assert set(logs.find(here)) == {"daemon", "etcd", "clusters/1/kubelet", "clusters/2/kubelet"}
    assert logs.choose(here, "etc").name == "etcd.log"
    with pytest.raises(CliError, match="several logs match 'kubelet'"):
        logs.choose(here, "kubelet")
    with pytest.raises(CliError, match="there is no log 'x'") as caught:
        logs.choose(here, "x")
    assert "daemon" in caught.value.remedy
    assert main.main(["logs", "-n", "1"]) == 0
    assert capsys.readouterr().out == "logs/daemon.log\n"


def test_follow_ends_with_the_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\n", encoding="utf-8")
    output = io.StringIO()

    def pause(_: float) -> None:
        if "two" in output.getvalue():
            path.unlink()
        else:
            with path.open("a", encoding="utf-8") as file:
                file.write("two\n")

    logs.show(path, lines=5, follow=True, output=output, pause=pause)
    assert output.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ({"gateways": [{"name": "a", "address": ""}, {"name": "b", "address": "203.0.113.9"}]}, "203.0.113.9"),
        ({"gateways": []}, None),
        ({}, None),
        (None, None),
    ],
)
def test_first_gateway_with_an_address(told: Any, address: str | None) -> None:
    assert forward.gateway_address(told) == address


def test_balancer_address_among_the_fabrics_own() -> None:
    link = {"addr_info": [{"local": "127.0.0.1"}, {"local": "192.0.2.10"}, {"local": "::1"}, {"local": "203.0.113.4"}]}
    assert forward.balancer_address([link]) == "203.0.113.4"
    assert forward.balancer_address([]) is None


def test_taken_port_is_passed_over() -> None:
    first = forward.listen(0)
    assert first is not None
    port = first.getsockname()[1]
    second = forward.listen(port)
    assert second is not None
    assert second.getsockname()[1] > port
    assert forward.listen(port, tries=1) is None
    first.close()
    second.close()


def interpreter(paths: Paths) -> subprocess.CompletedProcess[str]:
    variables = {
        "PATH": os.environ["PATH"],
        "LLMD_SANDBOX_NAME": paths.name,
        "LLMD_SANDBOX_CACHE": str(paths.cache),
        "LLMD_SANDBOX_STATE": str(paths.state.parent),
    }
    command = [str(REPOSITORY / "sandbox" / "python"), "-c", "print(1)"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_interpreter_answers_as_a_module_would_when_down(paths: Paths) -> None:
    done = interpreter(paths)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["failed"] is True
    assert answer["msg"].startswith("The sandbox is not up.")
    assert "./sandbox/sandbox up" in answer["msg"]


def test_scripts_are_plain_sh() -> None:
    for name in ("sandbox", "python"):
        script = REPOSITORY / "sandbox" / name
        assert os.access(script, os.X_OK)
        assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
        assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
