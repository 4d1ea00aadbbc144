# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Independent reads side by side, all within one deadline; what fails or is late is said, never raised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock

Reads = Mapping[str, Callable[[], Any]]


def read_all(
    reads: Reads, *, seconds: float, clock: Clock | None = None
) -> tuple[dict[str, Any], dict[str, LlmdError]]:
    """Run every read in a thread of its own: (name -> value, name -> why there is none).

    Threads are daemons: a read that hangs longer than ``seconds`` is left behind and does not keep the process.
    """
    values: dict[str, Any] = {}
    errors: dict[str, LlmdError] = {}
    crashed: dict[str, BaseException] = {}

    def work(name: str, read: Callable[[], Any]) -> None:
        try:
            values[name] = read()
        except LlmdError as error:
            errors[name] = error
        except BaseException as error:  # a fault of ours: raised again by the caller's thread
            crashed[name] = error

    threads = {name: threading.Thread(target=work, args=(name, read), daemon=True) for name, read in reads.items()}
    for thread in threads.values():
        thread.start()
    source = clock or SystemClock()
    end = source.now() + seconds
    for thread in threads.values():
        thread.join(max(0.0, end - source.now()))
    for error in crashed.values():
        raise error
    late = [name for name in reads if name not in values and name not in errors]
    for name in late:
        errors[name] = LlmdError(
            f"Reading {name} took longer than {seconds:.0f} s.",
            code="READ_TIMEOUT",
            remedy="Try again; a service that stays silent is itself a finding.",
        )
    return {name: values[name] for name in reads if name in values and name not in late}, errors
