"""OCI archives, the image builder and the hub's answers."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sandbox.hub.server import STARTUP_HEADER, WEIGHTS_HEADER, Hub, answer
from sandbox.images import build, oci
from sandbox.timing import Timing

GATED = "/google/gemma-2b-it/resolve/main/config.json"


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for entry in archive:
            file = archive.extractfile(entry)
            found[entry.name] = file.read() if file else b""
        return found


def test_archive_is_a_valid_oci_layout() -> None:
    image = oci.Image("example.test/a/b:v1", ("/x",), {"A": "1"}, {"opt/x": b"#!/bin/sh\n"})
    files = members(oci.archive(image))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}

    def blob(descriptor: dict[str, Any]) -> bytes:
        data = files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
        assert len(data) == descriptor["size"]
        assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"]
        return data

    entry = json.loads(files["index.json"])["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "example.test/a/b:v1"
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    content = blob(manifest["layers"][0])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(content).hexdigest()]
    assert config["config"]["Entrypoint"] == ["/x"]
    assert config["config"]["Env"] == ["A=1"]
    with tarfile.open(fileobj=io.BytesIO(content)) as layer:
        names = {entry.name: entry for entry in layer}
    assert names["opt/x"].mode == 0o755
    assert names["opt"].isdir()
    assert names["tmp"].mode == 0o1777
    assert {"usr", "lib", "lib64", "bin", "etc/passwd"} <= set(names)


def test_archives_are_reproducible_and_left_alone(tmp_path: Path) -> None:
    image = oci.Image("example.test/b:v1", ("/x",))
    path = oci.write(image, tmp_path)
    assert path.name == "b_v1.tar"
    stamp = path.stat().st_mtime_ns
    assert oci.write(image, tmp_path).stat().st_mtime_ns == stamp
    assert [entry.name for entry in tmp_path.iterdir()] == ["b_v1.tar"]


def configuration(path: Path) -> tuple[dict[str, Any], bytes]:
    files = members(path.read_bytes())
    manifest = json.loads(
        files["blobs/sha256/" + json.loads(files["index.json"])["manifests"][0]["digest"].removeprefix("sha256:")]
    )
    config = json.loads(files["blobs/sha256/" + manifest["config"]["digest"].removeprefix("sha256:")])
    return config["config"], files["blobs/sha256/" + manifest["layers"][0]["digest"].removeprefix("sha256:")]


def test_builder_names_and_commands(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"static")
    host = build.Host("/venv/bin/python", "/repo", {"LLMD_SANDBOX_TTFT_SECONDS": "1"})
    written = build.build(tmp_path / "images", host, pause_program=program)
    assert [path.name for path in written] == [
        "llm-d-cuda_v0.4.0.tar", "llm-d-inference-scheduler_v0.4.0.tar",
        "llm-d-cuda_v0.6.0.tar", "llm-d-inference-scheduler_v0.7.0.tar",
        "bbr_v1.2.0.tar", "bbr_v1.4.0.tar", "envoy_distroless-v1.33.2.tar",
        "llm-d-routing-sidecar_v0.4.0.tar", "llm-d-routing-sidecar_v0.7.1.tar",
        "lws_v0.7.0.tar", "custom-metrics-stackdriver-adapter_v0.15.1-gke.0.tar", "pause_3.10.tar",
    ]  # fmt: skip
    server, layer = configuration(written[0])
    assert "PYTHONPATH=/repo" in server["Env"]
    assert "LLMD_SANDBOX_TTFT_SECONDS=1" in server["Env"]
    assert "HF_ENDPOINT=http://192.0.2.11" in server["Env"]
    scripts = members(layer)
    folders = next(word for word in server["Env"] if word.startswith("PATH=")).removeprefix("PATH=").split(":")
    for script in ("opt/llmd/bin/vllm", "usr/local/bin/vllm"):
        assert b'exec /venv/bin/python -P -m sandbox.images.model_server "$@"' in scripts[script]
        assert "/" + script.removesuffix("/vllm") in folders
    picker, _ = configuration(written[1])
    assert picker["Entrypoint"] == ["/venv/bin/python", "-P", "-m", "sandbox.images.endpoint_picker"]
    assert not any("GENERATION" in word for word in picker["Env"])
    assert "LLMD_SANDBOX_PICKER_GENERATION=v1.4.0" in configuration(written[3])[0]["Env"]
    router, _ = configuration(written[4])
    assert router["Entrypoint"] == ["/venv/bin/python", "-P", "-m", "sandbox.images.body_router"]
    sidecar, _ = configuration(written[7])
    assert sidecar["User"] == "65532:65532"  # the chart says runAsNonRoot, and a kubelet looks
    assert "User" not in router
    assert configuration(written[-1])[0]["Entrypoint"] == ["/pause"]
    everything = build.build(tmp_path / "all", host, pause_program=None, everything=True)
    assert len(everything) == len(build.NAMES)


def test_builder_without_pause_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path), "--pause", str(tmp_path / "none"), "--python", "/p"]
    assert build.main(arguments) == 1
    assert "no pod can start without it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        (GATED, None, 401, "GatedRepo"),
        (GATED, "hf_not_accepted", 403, "GatedRepo"),
        (GATED, "hf_sandbox", 200, None),
        (GATED, "hf_nonsense", 401, None),
        ("/Qwen/Qwen3-0.6B/resolve/main/config.json", None, 200, None),
        ("/Qwen/Qwen3-0.6B/resolve/main/none.txt", None, 404, "EntryNotFound"),
        ("/Qwen/Qwen3-0.6B/resolve/v9/config.json", None, 404, "RevisionNotFound"),
        ("/no/such/resolve/main/config.json", None, 401, None),
        ("/no/such/resolve/main/config.json", "hf_sandbox", 404, "RepoNotFound"),
        ("/api/models/google/gemma-2b-it", None, 200, None),
        ("/api/models/no/such", "hf_sandbox", 404, "RepoNotFound"),
        ("/api/whoami-v2", None, 401, None),
        ("/api/whoami-v2", "hf_not_accepted", 200, None),
    ],
)
def test_hub_answers(path: str, token: str | None, status: int, code: str | None) -> None:
    said = answer(path, f"Bearer {token}" if token else None)
    assert (said.status, said.headers.get("X-Error-Code")) == (status, code)


def test_hub_tells_the_speed() -> None:
    with contextlib.closing(Hub("127.0.0.1", 0, Timing(60))) as hub:
        assert hub.pauses() == {WEIGHTS_HEADER: "2.000", STARTUP_HEADER: "1.250"}
    with contextlib.closing(Hub("127.0.0.1", 0)) as hub:
        assert hub.pauses() == {}


def test_hub_words() -> None:
    nobody, newcomer = answer(GATED, None), answer(GATED, "Bearer hf_not_accepted")
    assert nobody.headers["X-Error-Message"] == (
        "Access to model google/gemma-2b-it is restricted. "
        "You must have access to it and be authenticated to access it. Please log in."
    )
    assert newcomer.headers["X-Error-Message"] == (
        "Access to model google/gemma-2b-it is restricted and you are not in the authorized list. "
        "Visit https://huggingface.co/google/gemma-2b-it to ask for access."
    )
    config = json.loads(answer(GATED, "Bearer hf_sandbox").payload())
    assert (config["num_hidden_layers"], config["vocab_size"], config["model_type"]) == (18, 256000, "gemma")
    assert answer("/api/models/google/gemma-2b-it", None).body["gated"] == "manual"
