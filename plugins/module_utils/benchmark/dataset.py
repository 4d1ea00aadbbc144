# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading prompt files: JSON lines, or ShareGPT's shape (a JSON array or JSON lines of conversations)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Question
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

HUMAN = ("human", "user")
TOKENS_A_WORD = 1.3
MAX_ENTRIES = 200_000


def read(path: str, *, output: int, turns: int = 1) -> list[list[Question]]:
    """Sessions of a prompt file.

    Each entry is one of {"prompt", "max_tokens"/"output_tokens"}, {"messages": [{"role", "content"}]},
    {"conversations": [{"from", "value"}]} (ShareGPT) or a string. output: tokens where an entry names none and holds no
    answer to take the length from. turns: at most so many questions of one conversation. Raises ConfigurationError
    DATASET_INVALID with the entry's number.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(path, 0, str(error)) from error
    sessions = []
    for number, entry in enumerate(_entries(path, text), start=1):
        questions = _questions(entry, output)[:turns]
        if questions:
            sessions.append(questions)
        elif not isinstance(entry, Mapping) or not ({"conversations", "messages"} & set(entry)):
            raise _invalid(path, number, "neither prompt, messages nor conversations")
        if len(sessions) >= MAX_ENTRIES:
            break
    if not sessions:
        raise _invalid(path, 0, "no entry with a question")
    return sessions


def _invalid(path: str, number: int, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is no prompt file" + (f" (entry {number})." if number else "."),
        code="DATASET_INVALID",
        where=path,
        why=why,
        remedy='Give JSON lines such as {"prompt": "...", "max_tokens": 64}, or a ShareGPT file.',
    )


def _entries(path: str, text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            whole = json.loads(text)
        except ValueError as error:
            raise _invalid(path, 0, str(error)) from error
        return list(whole)
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise _invalid(path, number, str(error)) from error
    return entries


def _questions(entry: Any, output: int) -> list[Question]:
    if isinstance(entry, str):
        return [Question(entry, output)] if entry.strip() else []
    if not isinstance(entry, Mapping):
        return []
    if isinstance(entry.get("prompt"), str) and entry["prompt"]:
        wanted = entry.get("max_tokens") or entry.get("output_tokens") or output
        return [Question(entry["prompt"], int(wanted))]
    if isinstance(entry.get("conversations"), list):
        return _dialogue(entry["conversations"], "from", "value", output)
    if isinstance(entry.get("messages"), list):
        return _dialogue(entry["messages"], "role", "content", int(entry.get("max_tokens") or output))
    return []


def _dialogue(lines: Sequence[Any], speaker: str, text: str, output: int) -> list[Question]:
    """The person's lines; the answer that follows one says how long ours may be."""
    questions = []
    for position, line in enumerate(lines):
        if not isinstance(line, Mapping) or line.get(speaker) not in HUMAN or not line.get(text):
            continue
        after = lines[position + 1] if position + 1 < len(lines) else None
        length = output
        if isinstance(after, Mapping) and after.get(speaker) not in HUMAN and after.get(text):
            length = max(1, round(len(str(after[text]).split()) * TOKENS_A_WORD))
        questions.append(Question(str(line[text]), length))
    return questions
