# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live progress of long modules: what they wait for, while they wait."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
author: llmd.gke founders
short_description: Show what a long module is waiting for, while it waits
version_added: 0.1.0
description:
  - Modules of this collection that wait say what they wait for. This callback shows it at once, instead of after the
    task has ended.
  - It works for tasks on the control node (connection V(local)), which is where this collection's modules run.
requirements:
  - enable it in the configuration (C(callbacks_enabled = llmd.gke.progress))
"""

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible_collections.llmd.gke.plugins.module_utils.waiting import PROGRESS_FILE

LOOK_EVERY = 0.25


def read_messages(text: str) -> Iterator[str]:
    """Messages of complete lines of a progress file; a line that is not ours is passed over."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            yield str(json.loads(line)["message"])


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

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Name the file in the environment before the first worker is forked, then follow it."""
        handle, self._path = tempfile.mkstemp(prefix="llmd-progress-")
        os.close(handle)
        os.environ[PROGRESS_FILE] = self._path
        self._thread = threading.Thread(target=self._follow, name="llmd-progress", daemon=True)
        self._thread.start()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Stop following and take the file away."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=2)
        os.environ.pop(PROGRESS_FILE, None)
        with contextlib.suppress(OSError):
            os.unlink(self._path)

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
        for message in read_messages(complete):
            self._display.display(f"  ... {message}", color=C.COLOR_VERBOSE)
