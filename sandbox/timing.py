"""How long the real thing takes, and how much faster the sandbox is.

The durations are public reports' middle values, in seconds of a real project. ``speed`` divides them: 60 makes a
minute a second, 1 is real time, 0 means at once.
"""

from __future__ import annotations

import threading

REAL_SECONDS: dict[str, float] = {
    "service-enable": 30,
    "subnet-insert": 20,
    "subnet-delete": 20,
    "compute-operation": 5,
    "cluster-create": 390,
    "cluster-update": 180,
    "cluster-delete": 240,
    "node-pool-create": 150,
    "node-pool-resize": 120,
    "node-pool-delete": 120,
    # The cluster autoscaler's own settings on GKE.
    "autoscaler-scan": 10,
    "autoscaler-unneeded": 600,
    "autoscaler-delay-after-add": 600,
    "autoscaler-backoff": 300,
    "gateway-programmed": 100,
    "gateway-update": 40,
    "gateway-drain": 90,
    "health-check-propagation": 15,
    "image-pull": 240,
    "weights-download": 120,
    "model-server-start": 75,
}


class Timing:
    """Thread-safe holder of the speed factor; the daemon's control interface may change it while running."""

    def __init__(self, speed: float = 60.0) -> None:
        self._lock = threading.Lock()
        self._speed = 0.0
        self.speed = speed

    @property
    def speed(self) -> float:
        with self._lock:
            return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        if not 0 <= value <= 100_000:
            raise ValueError(f"speed {value}: 0 (at once) or a factor up to 100000")
        with self._lock:
            self._speed = float(value)

    def seconds(self, event: str) -> float:
        """Seconds that ``event`` (a key of ``REAL_SECONDS``) takes in this sandbox."""
        real = REAL_SECONDS[event]
        speed = self.speed
        return 0.0 if speed == 0 else real / speed
