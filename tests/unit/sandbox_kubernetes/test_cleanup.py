"""What cleaning up selects, and in which order it unmounts; control groups; the mounts of a machine."""

from __future__ import annotations

from pathlib import Path

from sandbox.kubernetes import cgroups, cleanup
from sandbox.kubernetes.pid1 import MachineSpec, Mount, Service, kept_below, launch_command, read_spec
from sandbox.paths import Paths

PATHS = Paths("llmd", Path("/cache"), Path("/state/llmd"))
SOCKET = "/state/llmd/clusters/1/nodes/1/containerd.sock"


def test_only_our_programs_on_our_files_are_selected() -> None:
    commands = {
        1: ["/sbin/init"],
        10: ["/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-address", SOCKET],
        11: ["containerd", "-c", "/state/llmd/clusters/1/nodes/1/config/containerd.toml"],
        12: ["/cache/bin/etcd", "--data-dir=/state/llmd/clusters/1/kwok/clusters/sandbox/etcd"],
        13: ["/venv/python", "-m", "sandbox.kubernetes.pid1", "/state/llmd/clusters/1/cp1.json"],
        20: ["containerd", "-c", "/etc/containerd/config.toml"],
        21: ["/cache/bin/kubelet", "--config", "/state/llmd2/clusters/1/nodes/1/config/kubelet.yaml"],
        22: ["tail", "-f", "/state/llmd/clusters/1/nodes/1/log"],
        23: ["vi", "/state/llmd/clusters/1/kwokctl.yaml"],
        24: ["python", "-m", "pytest", "/state/llmd/clusters/x"],
        25: [""],
    }
    assert cleanup.select(commands, PATHS) == {10, 11, 12, 13}


def test_unmount_order_is_deepest_then_newest_first() -> None:
    lines = [
        "overlay /state/llmd/a overlay rw 0 0",
        "tmpfs /state/llmd/a/b/c tmpfs rw 0 0",
        "tmpfs /state/llmd/a/b tmpfs rw 0 0",
        "proc /proc proc rw 0 0",
        "tmpfs /state/llmd/a/b tmpfs rw 0 0",
        "tmpfs /state/llmd2/a tmpfs rw 0 0",
        "tmpfs /state/llmd/with\\040blank tmpfs rw 0 0",
    ]
    assert cleanup.mounts_below(lines, Path("/state/llmd")) == [
        "/state/llmd/a/b/c",
        "/state/llmd/a/b",
        "/state/llmd/a/b",
        "/state/llmd/with blank",
        "/state/llmd/a",
    ]


def test_removing_an_absent_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    cleanup.remove_folder(tmp_path / "a")
    cleanup.remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_hierarchies_of_a_hybrid_machine() -> None:
    mounts = (
        "cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n"
        "cgroup /sys/fs/cgroup/cpu cgroup rw,nosuid,cpu,cpuacct 0 0\n"
        "cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n"
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
    )
    assert [(str(item.mountpoint), item.version, item.controllers) for item in cgroups.parse_mounts(mounts)] == [
        ("/sys/fs/cgroup/cpuset", 1, ("cpuset",)),
        ("/sys/fs/cgroup/cpu", 1, ("cpu", "cpuacct")),
        ("/sys/fs/cgroup/systemd", 1, ("name=systemd",)),
        ("/sys/fs/cgroup/unified", 2, ()),
    ]


def test_hierarchies_of_a_pure_v2_machine() -> None:
    found = cgroups.parse_mounts("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n")
    assert [(item.version, str(item.mountpoint)) for item in found] == [(2, "/sys/fs/cgroup")]


def test_groups_of_two_sandboxes_are_apart() -> None:
    other = Paths("llmd2", Path("/cache"), Path("/state/llmd2"))
    assert cgroups.node_group(PATHS, "n1-1") == "/llmd-sandbox-llmd/n1-1"
    assert not cgroups.root_of(other).startswith(cgroups.root_of(PATHS) + "/")


def test_kept_folders_are_those_below_outermost_once() -> None:
    keep = ["/var/lib/llmd/state", "/var/lib/llmd", "/var/cache/x", "/var/library", "/var/lib/py/", "/var/lib"]
    assert kept_below("/var/lib", keep) == ["/var/lib/llmd", "/var/lib/py"]


def test_machine_spec_survives_the_file(tmp_path: Path) -> None:
    spec = MachineSpec(
        [Mount("tmpfs", "/run", keep=["/run/x"]), Mount("bind", "/a", "/b")],
        [Service("s", ["x", "y"], "/log", {"A": "b"}, ["/needed"], once=True)],
    )
    spec.write(tmp_path / "spec.json")
    assert read_spec(tmp_path / "spec.json") == spec


def test_a_machine_ends_with_its_launcher() -> None:
    command = launch_command("/venv/python", Path("/state/cp1.json"))
    assert {"--kill-child", "--pid", "--mount", "--fork"} <= set(command)
    assert command[-3:] == ["-m", "sandbox.kubernetes.pid1", "/state/cp1.json"]
