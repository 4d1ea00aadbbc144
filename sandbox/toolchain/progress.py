"""What is being done, and for how long already: one line a step, live on a terminal, every 20 s elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Step:
    """One running step. ``note`` is free text about how far it is ("812 packages")."""

    name: str
    started: float
    note: str = ""
    ended: bool = field(default=False)


class Progress:
    """Thread-safe. Every finished step leaves a line ``ok  NAME  12.3 s  NOTE`` (or ``!!`` when it failed)."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        terminal: bool | None = None,
        interval: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
    ) -> None:
        self.stream = stream if stream is not None else sys.stderr
        if terminal is None:
            terminal = self.stream.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
        self.terminal = terminal
        self.interval = 0.25 if terminal else interval
        self.clock = clock
        self.quiet = quiet
        self._lock = threading.RLock()
        self._running: list[Step] = []
        self._ticker: threading.Thread | None = None
        self._wake = threading.Event()

    def say(self, text: str) -> None:
        """Print one line of information."""
        if self.quiet:
            return
        with self._lock:
            self._clear()
            self._write(text + "\n")

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a step while the ``with`` block runs, and its outcome and seconds afterwards."""
        step = Step(name, self.clock())
        with self._lock:
            self._running.append(step)
            self._start_ticker()
            if not self.terminal:
                self.say(f"..  {name}")
        mark = "!!"
        try:
            yield step
            mark = "ok"
        finally:
            with self._lock:
                self._running.remove(step)
                if not self._running:
                    self._wake.set()
                seconds = self.clock() - step.started
                self.say(f"{mark}  {name:<34} {seconds:7.1f} s  {step.note}".rstrip())

    def line(self) -> str:
        """The live line: every running step with its seconds and note."""
        with self._lock:
            now = self.clock()
            shown = [f"{step.name} {now - step.started:.0f} s {step.note}".rstrip() for step in self._running]
        return " · ".join(shown)

    def _start_ticker(self) -> None:
        if self.quiet or (self._ticker is not None and self._ticker.is_alive() and not self._wake.is_set()):
            return
        self._wake = threading.Event()
        self._ticker = threading.Thread(target=self._tick, args=(self._wake,), daemon=True, name="progress")
        self._ticker.start()

    def _tick(self, wake: threading.Event) -> None:
        while not wake.wait(self.interval):
            with self._lock:
                text = self.line()
                if not text or wake.is_set():
                    continue
                if self.terminal:
                    width = shutil.get_terminal_size().columns - 1
                    self._clear()
                    self._write(f"..  {text}"[:width])
                else:
                    self._write(f"..  {text}\n")

    def _clear(self) -> None:
        if self.terminal:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed terminal must not stop a build
            self.stream.write(text)
            self.stream.flush()
