"""Accuracy of the benchmark's own client: measured against its mock server, printed, never a pass or a fail.

    python tests/bench/client_accuracy.py [--quick]

What is aimed at, 64 at once: TTFT p50 within 1 %, p99 within 1.5 %, ITL within 0.2 %, counts exact, at most a tenth of
guidellm's processor time (42 s for the same 600 requests), 64 MB; 1,000 streams and 20,000 tokens/s on one core.
Mock and client share the machine, and what the mock loses counts as the client's error: an upper bound.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

COLLECTIONS = Path(__file__).resolve().parents[2] / "playbooks/collections"
CASES = [(1, 20, 0.2, 0.02, 50), (10, 100, 0.2, 0.02, 50), (64, 600, 0.2, 0.02, 50), (1000, 4000, 0.5, 0.05, 100)]


def measure(level: int, requests: int, ttft: float, itl: float, tokens: int) -> None:
    """One case in this process, as a line."""
    start = time.perf_counter()
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark import calibration, mock_server

    begun = time.perf_counter() - start
    calibration.LEAST = 1
    settings = mock_server.Settings(ttft=ttft, itl=itl, jitter=0.1)
    found = calibration.calibrate(level, settings=settings, tokens=tokens, requests=requests, seconds=30)
    first, between = found["errors"]["ttft"], found["errors"]["itl"]
    rate = found["output_tokens_per_second"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{level:5d} {requests:6d}  {first['p50']['relative']:+7.2%} {first['p90']['relative']:+7.2%} "
        f"{first['p99']['relative']:+7.2%}  {between['p50']['relative']:+7.2%}  {rate['relative']:+7.2%} "
        f"{rate['measured']:8.0f}  {'yes' if found['counts_exact'] else 'NO':>6}  {found['cpu_seconds']:6.2f} "
        f"{memory:6.0f} {begun:8.2f}",
        flush=True,
    )


def main() -> None:
    """Every case in a process of its own, so that memory and start-up are its own too."""
    if len(sys.argv) == 6:
        level, requests, ttft, itl, tokens = sys.argv[1:]
        measure(int(level), int(requests), float(ttft), float(itl), int(tokens))
        return
    print("at once, requests; error: TTFT p50 p90 p99, ITL p50, tokens/s; tokens/s; counts exact; cpu s; MB; start s")
    environment = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    for case in CASES[: 2 if "--quick" in sys.argv else None]:
        subprocess.run([sys.executable, __file__, *map(str, case)], env=environment, check=True)


if __name__ == "__main__":
    main()
