"""Facts about Google Cloud as data: regions, zones, machine and accelerator types, services, quotas.

Only what a small GPU deployment can ask for. Accelerators stand in the zones where Google's documentation ("GPU
locations", 2026) lists them; a zone that is missing there is a zone where creation is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

# region -> (zone letters, range of the auto-mode "default" subnet there)
REGIONS: dict[str, tuple[str, str]] = {
    "us-central1": ("abcf", "10.128.0.0/20"),
    "europe-west1": ("bcd", "10.132.0.0/20"),
    "us-west1": ("abc", "10.138.0.0/20"),
    "asia-east1": ("abc", "10.140.0.0/20"),
    "us-east1": ("bcd", "10.142.0.0/20"),
    "asia-northeast1": ("abc", "10.146.0.0/20"),
    "asia-southeast1": ("abc", "10.148.0.0/20"),
    "us-east4": ("abc", "10.150.0.0/20"),
    "europe-west2": ("abc", "10.154.0.0/20"),
    "europe-west3": ("abc", "10.156.0.0/20"),
    "europe-west4": ("abc", "10.164.0.0/20"),
    "us-west2": ("abc", "10.168.0.0/20"),
    "us-west4": ("abc", "10.182.0.0/20"),
    "us-east5": ("abc", "10.202.0.0/20"),
}
AUTO_RANGE = "10.128.0.0/9"


def zones(region: str) -> list[str]:
    return [f"{region}-{letter}" for letter in REGIONS[region][0]]


ZONES = {zone: region for region in REGIONS for zone in zones(region)}


@dataclass(frozen=True)
class MachineType:
    """``gpus``: accelerator type and count that come with the machine (A2, A3, G2)."""

    name: str
    cpus: int
    memory_mb: int
    gpus: tuple[str, int] | None = None

    @property
    def family(self) -> str:
        return self.name.split("-", 1)[0]

    @property
    def cpu_quota(self) -> str:
        """Regional quota metric that its CPUs count against."""
        shared = {"n1": "CPUS", "e2": "CPUS", "g2": "CPUS", "n2": "N2_CPUS", "c3": "C3_CPUS", "a2": "A2_CPUS"}
        return shared.get(self.family, "CPUS")


def _n1() -> list[MachineType]:
    standard = [MachineType(f"n1-standard-{n}", n, n * 3840) for n in (1, 2, 4, 8, 16, 32, 64, 96)]
    highmem = [MachineType(f"n1-highmem-{n}", n, n * 6656) for n in (2, 4, 8, 16, 32, 64, 96)]
    return standard + highmem


def _e2() -> list[MachineType]:
    shared = [
        MachineType("e2-micro", 2, 1024),
        MachineType("e2-small", 2, 2048),
        MachineType("e2-medium", 2, 4096),
    ]
    return shared + [MachineType(f"e2-standard-{n}", n, n * 4096) for n in (2, 4, 8, 16, 32)]


def _n2() -> list[MachineType]:
    return [MachineType(f"n2-standard-{n}", n, n * 4096) for n in (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)]


def _gpu_machines() -> list[MachineType]:
    l4 = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
    machines = [MachineType(f"g2-standard-{cpus}", cpus, cpus * 4096, ("nvidia-l4", n)) for cpus, n in l4.items()]
    machines += [MachineType(f"a2-highgpu-{n}g", n * 12, n * 87040, ("nvidia-tesla-a100", n)) for n in (1, 2, 4, 8)]
    machines += [MachineType(f"a2-ultragpu-{n}g", n * 12, n * 174080, ("nvidia-a100-80gb", n)) for n in (1, 2, 4, 8)]
    machines.append(MachineType("a3-highgpu-8g", 208, 1916928, ("nvidia-h100-80gb", 8)))
    return machines


MACHINE_TYPES = {machine.name: machine for machine in [*_n1(), *_e2(), *_n2(), *_gpu_machines()]}


@dataclass(frozen=True)
class Accelerator:
    """``families``: machines it can be attached to. ``quota``: regional metric; Spot's has PREEMPTIBLE_ before it."""

    name: str
    description: str
    quota: str
    families: tuple[str, ...]
    counts: tuple[int, ...]
    zones: frozenset[str]


def _at(text: str) -> frozenset[str]:
    """``"us-central1-abc us-east1-cd"`` as zone names."""
    found = (item.rpartition("-") for item in text.split())
    return frozenset(f"{region}-{letter}" for region, _, letters in found for letter in letters)


ACCELERATORS = {
    item.name: item
    for item in (
        Accelerator(
            "nvidia-tesla-t4", "NVIDIA T4", "NVIDIA_T4_GPUS", ("n1",), (1, 2, 4),
            _at("us-central1-abcf us-east1-cd us-east4-abc us-west1-ab us-west2-bc us-west4-ab europe-west1-bcd "
                "europe-west2-ab europe-west3-b europe-west4-abc asia-east1-ac asia-northeast1-ac asia-southeast1-abc"),
        ),
        Accelerator(
            "nvidia-tesla-v100", "NVIDIA V100", "NVIDIA_V100_GPUS", ("n1",), (1, 2, 4, 8),
            _at("us-central1-abcf us-east1-c us-west1-ab europe-west4-abc asia-east1-c"),
        ),
        Accelerator(
            "nvidia-l4", "NVIDIA L4", "NVIDIA_L4_GPUS", ("g2",), (1, 2, 4, 8),
            _at("us-central1-abc us-east1-bcd us-east4-ac us-west1-abc us-west4-ac europe-west1-bc europe-west2-ab "
                "europe-west3-ab europe-west4-abc asia-east1-abc asia-northeast1-abc asia-southeast1-abc"),
        ),
        Accelerator(
            "nvidia-tesla-a100", "NVIDIA A100 40GB", "NVIDIA_A100_GPUS", ("a2",), (1, 2, 4, 8, 16),
            _at("us-central1-abcf us-east1-b us-west1-b us-west4-b europe-west4-ab asia-northeast1-ac "
                "asia-southeast1-bc"),
        ),
        Accelerator(
            "nvidia-a100-80gb", "NVIDIA A100 80GB", "NVIDIA_A100_80GB_GPUS", ("a2",), (1, 2, 4, 8),
            _at("us-central1-ac us-east4-c us-east5-b europe-west4-a asia-southeast1-c"),
        ),
        Accelerator(
            "nvidia-h100-80gb", "NVIDIA H100 80GB", "NVIDIA_H100_GPUS", ("a3",), (8,),
            _at("us-central1-ac us-east4-abc us-east5-a us-west1-ab us-west4-a europe-west1-bc europe-west4-bc "
                "asia-east1-c asia-northeast1-b asia-southeast1-bc"),
        ),
    )
}  # fmt: skip

# What a project of moderate age has. Regional limits; a metric that is not here has limit 0.
REGION_QUOTAS: dict[str, float] = {
    "CPUS": 72,
    "N2_CPUS": 24,
    "C3_CPUS": 8,
    "A2_CPUS": 12,
    "IN_USE_ADDRESSES": 69,
    "STATIC_ADDRESSES": 8,
    "SSD_TOTAL_GB": 2048,
    "DISKS_TOTAL_GB": 4096,
    "INSTANCES": 720,
    "NVIDIA_T4_GPUS": 4,
    "NVIDIA_V100_GPUS": 1,
    "NVIDIA_L4_GPUS": 4,
    "NVIDIA_A100_GPUS": 1,
    "NVIDIA_A100_80GB_GPUS": 0,
    "PREEMPTIBLE_NVIDIA_T4_GPUS": 4,
    "PREEMPTIBLE_NVIDIA_V100_GPUS": 1,
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 4,
    "PREEMPTIBLE_NVIDIA_A100_GPUS": 1,
    "PREEMPTIBLE_NVIDIA_A100_80GB_GPUS": 0,
}
PROJECT_QUOTAS: dict[str, float] = {
    "NETWORKS": 15,
    "SUBNETWORKS": 275,
    "FIREWALLS": 200,
    "FORWARDING_RULES": 45,
    "BACKEND_SERVICES": 50,
    "HEALTH_CHECKS": 75,
    "URL_MAPS": 30,
    "TARGET_HTTP_PROXIES": 30,
    "STATIC_ADDRESSES": 21,
    "IN_USE_ADDRESSES": 69,
    "GPUS_ALL_REGIONS": 8,
}

# service -> title as it stands in "<title> has not been used in project ..."
SERVICES: dict[str, str] = {
    "compute.googleapis.com": "Compute Engine API",
    "container.googleapis.com": "Kubernetes Engine API",
    "networkservices.googleapis.com": "Network Services API",
    "monitoring.googleapis.com": "Cloud Monitoring API",
    "logging.googleapis.com": "Cloud Logging API",
    "serviceusage.googleapis.com": "Service Usage API",
    "cloudresourcemanager.googleapis.com": "Cloud Resource Manager API",
    "cloudbilling.googleapis.com": "Cloud Billing API",
    "iam.googleapis.com": "Identity and Access Management (IAM) API",
    "iamcredentials.googleapis.com": "IAM Service Account Credentials API",
    "sts.googleapis.com": "Security Token Service API",
    "oslogin.googleapis.com": "Cloud OS Login API",
    "secretmanager.googleapis.com": "Secret Manager API",
    "artifactregistry.googleapis.com": "Artifact Registry API",
    "modelarmor.googleapis.com": "Model Armor API",
    "certificatemanager.googleapis.com": "Certificate Manager API",
    "dns.googleapis.com": "Cloud DNS API",
    "gkehub.googleapis.com": "GKE Hub API",
    "trafficdirector.googleapis.com": "Traffic Director API",
    "networksecurity.googleapis.com": "Network Security API",
    "cloudquotas.googleapis.com": "Cloud Quotas API",
    "storage.googleapis.com": "Cloud Storage JSON API",
}
# A fresh project: enough to look at itself and to enable the rest.
BASE_SERVICES = (
    "serviceusage.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudbilling.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "sts.googleapis.com",
)
# Enabling the first enables the others; disabling one of the others is refused while the first is on.
SERVICE_NEEDS: dict[str, tuple[str, ...]] = {
    "compute.googleapis.com": ("oslogin.googleapis.com",),
    "container.googleapis.com": ("compute.googleapis.com", "oslogin.googleapis.com"),
}
# Hosts that answer whatever the project enabled.
ALWAYS_ON = frozenset(
    {"www.googleapis.com", "oauth2.googleapis.com", "sts.googleapis.com", "serviceusage.googleapis.com"}
)

GKE_VERSION = "1.36.4-gke.1000000"
GKE_OLDER_VERSIONS = ("1.35.8-gke.1000000", "1.34.12-gke.1000000")


def region_of(location: str) -> str:
    """Region of a zone or of itself."""
    return ZONES.get(location, location)


def locations(location: str) -> list[str]:
    """Zones where a cluster of this location has its nodes: the zone, or three of the region's. KeyError if unknown."""
    if location in ZONES:
        return [location]
    return zones(location)[:3]
