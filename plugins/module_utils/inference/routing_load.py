# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounded load on one pod, past the picker: so many requests at once, until told to stop or until time is up."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

from ansible_collections.llmd.gke.plugins.module_utils.errors import KubernetesError
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_prompts import prompt
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock


@dataclass(frozen=True)
class Limits:
    """How much load at most: requests at once, tokens a request, characters a prompt, seconds, requests in all."""

    concurrency: int = 16
    tokens: int = 256
    characters: int = 2400
    seconds: float = 60
    requests: int = 2000


class Load:
    """A context manager: load while inside. ``sent`` and ``failed`` count requests, ``error`` is the last trouble."""

    def __init__(self, pool: Pool, pod: str, model: str, run: str, limits: Limits, clock: Clock | None = None) -> None:
        self.sent = 0
        self.failed = 0
        self.error = ""
        self._pool, self._pod, self._model, self._run, self._limits = pool, pod, model, run, limits
        self._clock: Clock = clock or SystemClock()
        self._until = self._clock.now() + limits.seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    @property
    def alive(self) -> bool:
        """Whether the load is still on."""
        return any(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> Load:
        for number in range(self._limits.concurrency):
            thread = threading.Thread(target=self._work, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def visible(self) -> bool:
        """Whether the pod itself reports requests in work."""
        return self._pool.in_work(self._pod) > 0

    def _take(self) -> int | None:
        with self._lock:
            over = self.sent >= self._limits.requests or self._clock.now() >= self._until or self.failed >= 20
            if over or self._stop.is_set():
                return None
            self.sent += 1
            return self.sent

    def _work(self, thread: int) -> None:
        while (number := self._take()) is not None:
            document = {
                "model": self._model,
                "prompt": prompt(self._run, 1_000_000 + number, self._limits.characters),
                "max_tokens": self._limits.tokens,
                "ignore_eos": True,
            }
            try:
                self._pool.client.pod_post(self._pod, self._pool.namespace, self._pool.port, "v1/completions", document)
            except KubernetesError as problem:
                with self._lock:
                    self.failed += 1
                    self.error = problem.why or problem.what
