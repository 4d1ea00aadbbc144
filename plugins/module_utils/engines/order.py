# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine is asked to do, and what comes back: one load, in the benchmark's own shapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Record, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Spec, Workload
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError

# Stand for folders that are known only where the engine runs; in prompts of people they will not occur.
FOLDER = "@LLMD-FOLDER@"
OUT = "@LLMD-OUT@"


@dataclass(frozen=True)
class Order:
    """One load for an engine. ``salt``: as in Workload; ``tokenizer``: folder or name, for engines that need one."""

    target: Target
    spec: Spec
    load: Load
    salt: str = ""
    tokenizer: str = ""

    def prompts(self, more: int = 0) -> list[tuple[str, int]]:
        """The very prompts and answer lengths that our own client would send, and ``more`` for an engine to waste."""
        workload = Workload(self.spec, self.salt)
        questions = (workload.take().questions[0] for _unused in range(self.load.requests + more))
        return [(question.text, question.output) for question in questions]


def placed(text: str, folder: str, out: str) -> str:
    """A text of a recipe, for the folders that there are."""
    return text.replace(FOLDER, folder).replace(OUT, out)


@dataclass(frozen=True)
class Recipe:
    """How to run an engine: files to write, the command, what it leaves.

    FOLDER and OUT stand everywhere for the folders of files and outputs. outputs: label -> file. drop: keys of a JSON
    output that are of no use (generated texts). secrets: environment that no command line or manifest may show.
    """

    command: tuple[str, ...]
    files: Mapping[str, str]
    outputs: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()


@dataclass
class Found:
    """What an engine measured: one record a request, and its own summary for comparison.

    timed: whether it says when requests were sent; without that nothing can be said over time. window: seconds, where
    the engine tells only those. own: its own figures under our names, in seconds and tokens a second.
    """

    records: list[Record]
    version: str = ""
    timed: bool = True
    window: float = 0.0
    own: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Engine:
    """An engine: what it is called and installed as, how it is told, how it is read."""

    name: str
    program: str
    requirement: str
    python: tuple[int, int]
    image: str
    recipe: Callable[[Order], Recipe]
    read: Callable[[Mapping[str, str], Order], Found]


def parsed(texts: Mapping[str, str], label: str, engine: str) -> Any:
    """An output as JSON. Raises InferenceError ENGINE_RESULT_INVALID where it is missing or none."""
    text = texts.get(label, "")
    try:
        if not text:
            raise ValueError("there is none")
        return json.loads(text)
    except ValueError as error:
        raise invalid(engine, f"{label}: {error}") from error


def invalid(engine: str, why: str) -> InferenceError:
    """The error for a result that is not as the pinned version writes it."""
    return InferenceError(
        f"{engine} left no result that can be read.",
        code="ENGINE_RESULT_INVALID",
        why=why,
        remedy="Look at the engine's log beside the results; use the pinned version (benchmark_engine_version empty).",
    )


def unfit(engine: str, why: str, remedy: str) -> ConfigurationError:
    """The error for a load that an engine cannot make."""
    return ConfigurationError(f"{engine} cannot make this load.", code="ENGINE_UNFIT", why=why, remedy=remedy)


def check(engine: str, order: Order, *, chat: bool = True) -> None:
    """Refuse what no engine does as we mean it. Raises ConfigurationError ENGINE_UNFIT."""
    if order.spec.kind == "multi_turn":
        raise unfit(engine, "conversations carry answers on", "Use the built-in engine for workload.kind multi_turn.")
    if order.spec.api == "chat" and not chat:
        raise unfit(engine, "only the completions API is driven", "Set api to completions, or use the built-in engine.")
    if order.load.requests < 1:
        raise unfit(engine, "zero requests", "Set requests to 1 or more.")
    if order.target.host_header:
        raise unfit(engine, "a Host header of its own", "Use the built-in engine for routes bound to a hostname.")


def api_key(target: Target) -> str:
    """The bearer token that the target's headers carry, "" for none."""
    value = next((value for name, value in target.headers if name.lower() == "authorization"), "")
    return value.removeprefix("Bearer ")
