"""Asks an endpoint on and on, inside the sandbox's network, until a file appears; prints what it saw as JSON.

python stream_worker.py URL MODEL STREAMS TOKENS STATE_FILE STOP_FILE
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "playbooks" / "collections"))

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Client
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Target
from ansible_collections.llmd.gke.plugins.module_utils.inference import traffic

LIMIT = 600.0  # seconds: whoever started it may have died


async def main() -> None:
    url, model, streams, tokens, state, stop = sys.argv[1:]
    plan = traffic.Plan(model, int(streams), int(tokens), pause=0.05, limit=LIMIT)

    def tell(watch: traffic.Watch) -> None:
        Path(state).write_text(str(len(watch.records)), encoding="utf-8")

    async with Client(Target.parse(url, "endpoint"), Load(request_timeout=120)) as client:
        watch = await traffic.keep_asking(client, plan, lambda: os.path.exists(stop), tell=tell)
    print(json.dumps(traffic.summary(watch)))


if __name__ == "__main__":
    asyncio.run(main())
