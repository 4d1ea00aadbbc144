"""What a machine type has, what GKE keeps of it, and files that show a kubelet a machine of that size.

Sources: Compute Engine's machine family pages (vCPU and memory a type) and GKE's "node sizes" page (memory and CPU
reservations). The sandbox's own machine is usually smaller than the nodes it plays: the sizes only steer the
scheduler, as nothing here makes CPUs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_GIB = 1024
# Gigabytes a vCPU, by family and class.
_MEMORY_PER_CPU = {
    ("n1", "standard"): 3.75,
    ("n1", "highmem"): 6.5,
    ("n1", "highcpu"): 0.9,
    ("a2", "highgpu"): 85 / 12,
    ("a2", "ultragpu"): 170 / 12,
    ("a3", "highgpu"): 9.0,
    ("g2", "standard"): 4.0,
}
_MEMORY_PER_CLASS = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
_SHARED_CORE = {"e2-micro": (2, 1.0), "e2-small": (2, 2.0), "e2-medium": (2, 4.0)}
_GPU_TYPES = {"a2-highgpu": 12, "a2-ultragpu": 12, "a3-highgpu": 26}  # vCPUs a GPU


@dataclass(frozen=True)
class Machine:
    """Size of a machine type: whole vCPUs and memory in MiB."""

    cpus: int
    memory_mib: int


def machine(machine_type: str) -> Machine | None:
    """The size of ``machine_type``, or None where the name is not understood."""
    if machine_type in _SHARED_CORE:
        cpus, memory = _SHARED_CORE[machine_type]
        return Machine(cpus, int(memory * _GIB))
    custom = re.fullmatch(r"(?:[a-z0-9]+-)?custom-(\d+)-(\d+)(?:-ext)?", machine_type)
    if custom:
        return Machine(int(custom[1]), int(custom[2]))
    accelerated = re.fullmatch(r"(a2-highgpu|a2-ultragpu|a3-highgpu)-(\d+)g", machine_type)
    if accelerated:
        cpus = _GPU_TYPES[accelerated[1]] * int(accelerated[2])
        family, _, kind = accelerated[1].partition("-")
        return Machine(cpus, int(cpus * _MEMORY_PER_CPU[family, kind] * _GIB))
    plain = re.fullmatch(r"([a-z]\d[a-z]?)-(standard|highmem|highcpu)-(\d+)", machine_type)
    if not plain:
        return None
    per_cpu = _MEMORY_PER_CPU.get((plain[1], plain[2]), _MEMORY_PER_CLASS[plain[2]])
    return Machine(int(plain[3]), int(int(plain[3]) * per_cpu * _GIB))


def reserved_cpu_millicores(cpus: int) -> int:
    """GKE's CPU reservation: 6 % of the first core, 1 % of the second, 0.5 % of two more, 0.25 % of the rest."""
    millicores = 0.0
    for core in range(cpus):
        millicores += 60 if core == 0 else 10 if core == 1 else 5 if core < 4 else 2.5
    return round(millicores)


def reserved_memory_mib(memory_mib: int) -> int:
    """GKE's memory reservation with its 100 MiB for evictions: 25, 20, 10, 6, 2 % of ever larger steps."""
    if memory_mib < _GIB:
        return 255
    reserved, rest = 0.0, float(memory_mib)
    for step, share in ((4, 0.25), (4, 0.20), (8, 0.10), (112, 0.06), (float("inf"), 0.02)):
        part = min(rest, step * _GIB)
        reserved += part * share
        rest -= part
    return int(reserved) + 100


def meminfo(size: Machine) -> str:
    """``/proc/meminfo`` of a machine of that size, all of it free."""
    kib = size.memory_mib * 1024
    values = {"MemTotal": kib, "MemFree": kib, "MemAvailable": kib, "SwapTotal": 0, "SwapFree": 0}
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in values.items())


def write_cpu_tree(folder: Path, cpus: int) -> None:
    """A ``/sys/devices/system/cpu`` in which kubelet (cAdvisor) counts ``cpus``.

    Without a topology on purpose: a kubelet that knows one confines the pods' control group to those CPUs by number,
    and the machine below may have fewer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("online", "possible", "present"):
        (folder / name).write_text(f"0-{cpus - 1}\n" if cpus > 1 else "0\n", encoding="ascii")
    for cpu in range(cpus):
        (folder / f"cpu{cpu}").mkdir(exist_ok=True)
