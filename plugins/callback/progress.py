# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live progress of long modules: what they wait for, while they wait."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
author:
  - The llmd.gke contributors (@llmd-gke)
short_description: Show what a long module is waiting for, while it waits
version_added: 0.1.0
description:
  - Modules of this collection that wait say what they wait for. This callback shows it at once, instead of after the
    task has ended.
  - On a terminal the last state stays as one live line with the seconds so far and how long such a task usually takes.
    Elsewhere each new state is a plain line.
  - How long a task usually takes is learned from runs on this machine, and kept in O(history).
  - It works for tasks on the control node (connection V(local)), which is where this collection's modules run.
requirements:
  - enable it in the configuration (C(callbacks_enabled = llmd.gke.progress))
options:
  live:
    description: Whether to keep a live line. V(auto) does so on a terminal, and shows nothing at all in an AWX job.
    type: str
    choices: [auto, always, never]
    default: auto
    env:
      - name: LLMD_GKE_PROGRESS
    ini:
      - section: callback_llmd_progress
        key: live
  history:
    description: File in which the usual durations are kept. Empty keeps none.
    type: path
    default: ~/.llmd/durations.json
    env:
      - name: LLMD_GKE_PROGRESS_HISTORY
    ini:
      - section: callback_llmd_progress
        key: history
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible_collections.llmd.gke.plugins.module_utils.waiting import PROGRESS_FILE

JOBS = ("AWX_JOB_ID", "TOWER_JOB_ID")
LOOK_EVERY = 0.25
QUIET = 3.0  # a task that is shorter needs no live line
KEPT = 5  # durations of a task that are remembered; the middle one is the usual one
CLEAR = "\r\x1b[2K"


def read_messages(text: str) -> Iterator[str]:
    """Messages of complete lines of a progress file; a line that is not ours is passed over."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            yield str(json.loads(line)["message"])


def duration(seconds: float) -> str:
    """Seconds as a person reads a clock."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{int(seconds) // 60}m{int(seconds) % 60:02}s"


def live_line(task: str, state: str, elapsed: float, usual: float | None, columns: int) -> str:
    """One line, no wider than the terminal: the clock first, then what is waited for."""
    clock = duration(elapsed) + (f" of usually {duration(usual)}" if usual else "")
    text = f"  ... {clock}  {state or task}"
    return text if len(text) < columns else text[: max(10, columns - 2)] + "…"


class Durations:
    """How long tasks took, in a file of the person's; without the file nothing is missing but a figure."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser() if path else None
        self._known: dict[str, list[float]] = {}
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                found = json.loads(self._path.read_text(encoding="utf-8"))
                self._known = {str(name): [float(one) for one in those] for name, those in found.items()}

    def usual(self, name: str) -> float | None:
        those = sorted(self._known.get(name, []))
        return those[len(those) // 2] if those else None

    def note(self, name: str, seconds: float) -> None:
        self._known[name] = [*self._known.get(name, []), round(seconds, 1)][-KEPT:]

    def keep(self) -> None:
        """Write all or nothing; a courtesy, so a full disk is no error."""
        if self._path is None or not self._known:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            part.write_text(json.dumps(self._known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(part, self._path)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Follows one file that modules append to, and prints what arrives."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "llmd.gke.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._path = ""
        self._offset = 0
        self._given = False
        self._lock = threading.RLock()  # the follower and Ansible's own thread both write to the terminal
        self._pid = os.getpid()
        self._task, self._state, self._began = "", "", 0.0
        self._shown = False
        self._live = False
        self._durations = Durations("")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Name the file in the environment before the first worker is forked, then follow it. A file that is named
        there already is followed, and kept."""
        wish = str(self.get_option("live") or "auto")
        if wish == "auto" and any(os.environ.get(name) for name in JOBS):
            return  # a job's output is read afterwards, event by event
        self._live = wish == "always" or (wish == "auto" and sys.stdout.isatty())
        self._durations = Durations(str(self.get_option("history") or ""))
        self._path = os.environ.get(PROGRESS_FILE, "")
        self._given = bool(self._path) and os.path.exists(self._path)
        if self._given:
            self._offset = os.path.getsize(self._path)
        else:
            try:
                handle, self._path = tempfile.mkstemp(prefix="llmd-progress-")
            except OSError:
                return  # nowhere to write: the run does without
            os.close(handle)
            os.environ[PROGRESS_FILE] = self._path
        if self._live:
            self._make_way()
        self._thread = threading.Thread(target=self._follow, name="llmd-progress", daemon=True)
        self._thread.start()

    def _make_way(self) -> None:
        """Whatever Ansible prints, the live line goes first. Results reach the screen before they reach a callback."""
        plain = self._display.display

        def display(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() != self._pid:  # a worker: its lines go through the main process, and so come here again
                return plain(*args, **kwargs)
            with self._lock:
                self._clear()
                return plain(*args, **kwargs)

        self._display.display = display

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins: the live line is about it from now on."""
        with self._lock:
            self._clear()
            self._task, self._state, self._began = str(task.get_name()), "", time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._ended()

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._ended(noted=False)  # how long a failure took says nothing

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._ended(noted=False)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._ended(noted=False)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Stop following and take the file away."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=2)
        if self._path and not self._given:
            os.environ.pop(PROGRESS_FILE, None)
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._durations.keep()

    def _ended(self, *, noted: bool = True) -> None:
        with self._lock:
            self._clear()
            seconds = time.monotonic() - self._began
            if noted and self._task and seconds >= QUIET:
                self._durations.note(self._task, seconds)
            self._task, self._state = "", ""

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            self._show_new()
        self._show_new()

    def _show_new(self) -> None:
        try:
            with open(self._path, encoding="utf-8", errors="replace") as stream:
                stream.seek(self._offset)
                text = stream.read()
        except OSError:
            return
        complete = text[: text.rfind("\n") + 1]
        self._offset += len(complete.encode())
        with self._lock:
            for message in read_messages(complete):
                self._state = message
                if not self._live:
                    self._display.display(f"  ... {message}", color=C.COLOR_VERBOSE)
            self._refresh()

    def _refresh(self) -> None:
        """Draw the live line anew, with the clock of now."""
        elapsed = time.monotonic() - self._began
        if not self._live or not self._task or (elapsed < QUIET and not self._state):
            return
        columns = shutil.get_terminal_size().columns
        line = live_line(self._task, self._state, elapsed, self._durations.usual(self._task), columns)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(f"{CLEAR}\x1b[2m{line}\x1b[0m")
            sys.stdout.flush()
            self._shown = True

    def _clear(self) -> None:
        if self._shown:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(CLEAR)
                sys.stdout.flush()
            self._shown = False
