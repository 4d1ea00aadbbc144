# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts that share a long prefix, or none. Pure: the same run and number give the same text."""

from __future__ import annotations

import random

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu")


def prefix(run: str, number: int, length: int) -> str:
    """``length`` characters that differ from every other number's from the first word on."""
    lot = random.Random(f"{run}/{number}")
    words: list[str] = []
    size = 0
    while size <= length:
        words.append("".join(lot.choices(_SYLLABLES, k=lot.randint(1, 3))))
        size += len(words[-1]) + 1
    return " ".join(words)[:length]


def prompt(run: str, number: int, length: int, question: int = 0) -> str:
    """A prefix with a question of its own behind it."""
    return f"{prefix(run, number, length)} Question {question}: what is this about?"
