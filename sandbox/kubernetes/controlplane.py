"""One cluster's control plane: its files, its start in a namespace of its own, what it holds from the beginning."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sandbox import fabric, processes
from sandbox.kubernetes import baseobjects, pki, render
from sandbox.kubernetes.addresses import ClusterPlan
from sandbox.kubernetes.api import ApiClient, wait_for
from sandbox.kubernetes.pid1 import MachineSpec, Mount, Service, launch_command
from sandbox.paths import REPOSITORY, Paths

CLUSTER_NAME = "sandbox"  # kwokctl's name for it; each cluster has its own working folder
READY_TIMEOUT = 90.0  # seconds; 4 to 6 are usual on two cores
_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class StartFailed(RuntimeError):
    """A control plane or node did not become ready; the text ends with the last lines of the log that tells most."""


class Layout:
    """Files of one cluster below ``paths.clusters/<index>``."""

    def __init__(self, paths: Paths, plan: ClusterPlan) -> None:
        self.folder = paths.clusters / str(plan.index)
        self.processes = self.folder / "processes"
        self.record = self.folder / "cluster.json"
        self.kwok = self.folder / "kwok"
        self.home = self.kwok / "clusters" / CLUSTER_NAME
        self.pki = self.home / "pki"
        self.kubeconfig = self.folder / "kubeconfig"
        self.ca = self.pki / "ca.crt"
        self.admin_cert = self.pki / "admin.crt"
        self.admin_key = self.pki / "admin.key"

    def node(self, number: int) -> render.NodeFiles:
        return render.NodeFiles(self.folder / "nodes" / str(number))


def minimal_environment() -> dict[str, str]:
    """Environment of everything that the sandbox runs: nothing of the caller's, above all no proxy."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}


def kept_folders(paths: Paths) -> list[str]:
    """Folders that stay visible in a machine whose /run and /var/lib are its own."""
    own = (paths.state, paths.cache, paths.cache.resolve(), paths.bin.resolve(), REPOSITORY)
    return [*(str(path) for path in own), sys.prefix, sys.base_prefix]


def write_certificates(layout: Layout, plan: ClusterPlan) -> pki.Authority:
    """The cluster's CA and every certificate of the control plane, where kwokctl would have put its own."""
    authority = pki.new_authority(f"cluster-{plan.index}-ca")
    pki.write_pair(layout.pki, "ca", authority.pem, pki.key_pem(authority.key))
    people = {
        "admin": ("kubernetes-admin", ["system:masters"], []),
        "apiserver": ("kube-apiserver", [], render.api_server_names(plan)),
        "kubelet-client": ("kube-apiserver-kubelet-client", ["system:masters"], []),
        "front-proxy-client": ("front-proxy-client", [], []),
        "service-accounts": ("service-accounts", [], []),  # only the key is used
        "coredns": (baseobjects.DNS_USER, [], []),
    }
    for name, (common_name, organizations, alternatives) in people.items():
        pki.write_pair(layout.pki, name, *pki.issue(authority, common_name, organizations, alternatives))
    return authority


def write_configuration(paths: Paths, layout: Layout, plan: ClusterPlan, key: str) -> Path:
    """Every configuration file of the control plane; the machine specification to launch."""
    folder, server = layout.folder, f"https://{plan.endpoint}"
    tokens, access = folder / "token-webhook.yaml", folder / "access-webhook.yaml"
    config, corefile = folder / "kwokctl.yaml", folder / "Corefile"
    dns = folder / "coredns.kubeconfig"
    tokens.write_text(render.webhook("tokenreview", key), encoding="utf-8")
    access.write_text(render.webhook("accessreview", key), encoding="utf-8")
    control = render.ControlPlane(plan, paths.bin, layout.home, _write_keepers(paths, folder))
    config.write_text(render.kwokctl(control, tokens, access), encoding="utf-8")
    dns.write_text(
        render.kubeconfig(server, layout.ca, layout.pki / "coredns.crt", layout.pki / "coredns.key", "coredns"),
        encoding="utf-8",
    )
    corefile.write_text(render.corefile(plan, dns), encoding="utf-8")
    layout.kubeconfig.touch(mode=0o600)
    admin = render.kubeconfig(server, layout.ca, layout.admin_cert, layout.admin_key, "kubernetes-admin")
    layout.kubeconfig.write_text(admin, encoding="utf-8")
    create = [str(paths.bin / "kwokctl"), "--name", CLUSTER_NAME, "--config", str(config), "create", "cluster"]
    services = [
        Service(
            "kwokctl",
            [*create, "--kubeconfig", str(folder / "kwok.kubeconfig")],
            log=str(paths.logs / f"{plan.role}-kwokctl.log"),
            environment={"KWOK_WORKDIR": str(layout.kwok), "HOME": str(folder)},
            once=True,
        ),
        # It asks the API server again and again until that is there; started at once it is ready as soon as possible.
        Service(
            "coredns",
            [str(paths.bin / "coredns"), "-conf", str(corefile)],
            log=str(paths.logs / f"{plan.role}-coredns.log"),
            needs=[str(layout.home / "pids" / "kube-apiserver.pid")],
        ),
    ]
    spec = folder / f"{plan.role}.json"
    MachineSpec([Mount("tmpfs", "/run", keep=kept_folders(paths))], services).write(spec)
    return spec


def _write_keepers(paths: Paths, folder: Path) -> Path:
    keepers = folder / "keepers"
    keepers.mkdir(exist_ok=True)
    for name in ("kube-controller-manager", "kube-scheduler"):
        script = keepers / name
        script.write_text(render.keeper(paths.bin / name), encoding="utf-8")
        script.chmod(0o755)
    return keepers


def start(paths: Paths, layout: Layout, plan: ClusterPlan, spec: Path) -> processes.Process:
    """Make the namespace and start the machine in it."""
    namespace = fabric.attach(
        paths, plan.role, address=f"{plan.endpoint}/28", gateway=plan.gateway, fabric_address=f"{plan.gateway}/28"
    )
    _link_logs(paths, layout, plan)
    return processes.start(
        plan.role,
        launch_command(sys.executable, spec),
        folder=layout.processes,
        log=paths.logs / f"{plan.role}.log",
        namespace=namespace,
        environment=minimal_environment(),
    )


def wait_ready(paths: Paths, plan: ClusterPlan, client: ApiClient, machine: processes.Process) -> None:
    """Return once /readyz says ok. Raises StartFailed when it does not in time or the machine has ended."""
    if wait_for(lambda: client.ready() or not machine.alive(), timeout=READY_TIMEOUT, interval=0.1) and machine.alive():
        return
    why = "did not answer in time" if machine.alive() else "ended while starting"
    logs = [paths.logs / f"{plan.role}{suffix}.log" for suffix in ("-kube-apiserver", "-kwokctl", "")]
    raise StartFailed(f"control plane {plan.role} {why}.\n{tail(logs)}")


def fill(client: ApiClient, plan: ClusterPlan) -> None:
    """Create the objects that a GKE cluster has from the beginning."""
    for collection, body in baseobjects.objects(plan):
        client.create(collection, body)


def tail(logs: list[Path], lines: int = 8) -> str:
    """Last lines of the first of ``logs`` that has any, with its path."""
    for log in logs:
        try:
            text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        if text:
            return f"Last lines of {log}:\n" + "\n".join(line[:400] for line in text[-lines:])
    return "No log was written."


def _link_logs(paths: Paths, layout: Layout, plan: ClusterPlan) -> None:
    paths.logs.mkdir(parents=True, exist_ok=True)
    for component in _COMPONENTS:
        link = paths.logs / f"{plan.role}-{component}.log"
        link.unlink(missing_ok=True)
        os.symlink(layout.home / "logs" / f"{component}.log", link)


def unlink_logs(paths: Paths, plan: ClusterPlan) -> None:
    """Forget the links to logs that go with the cluster's folder."""
    for component in _COMPONENTS:
        link = paths.logs / f"{plan.role}-{component}.log"
        if link.is_symlink():
            link.unlink()
