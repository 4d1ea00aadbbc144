# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data files that the collection ships and that users may replace by one of their own: profiles and patterns."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError

# The parser in C takes a tenth of the time; every task that asks pays it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def _content(path: Path) -> Any:
    """Read once in a run, however many tasks ask for it."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)


@dataclass(frozen=True)
class Kind:
    """One kind of such files. ``noun`` is what messages call it, ``variable`` names it in an inventory."""

    noun: str
    variable: str
    unknown: str  # the code where there is none of that name
    invalid: str  # the code where it lacks a section
    folder: Path
    required: tuple[str, ...]

    def read(self, name: str) -> dict[str, Any]:
        """Content of the shipped file ``name``, or of the file at an absolute path; not to be changed.

        Raises AnsibleError naming what is there when it is unknown or lacks a section.
        """
        path = Path(name) if name.startswith("/") else self.folder / f"{name}.yml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in self.folder.glob("*.yml")))
            plain = self.noun.rpartition(" ")[2]
            raise AnsibleError(
                f"{self.unknown}: there is no {self.noun} {name!r}.\nKnown {plain}s: {known}.\n"
                f"What now: set {self.variable} to one of them, or to the absolute path of a {plain} file of your own."
            )
        content = _content(path)
        missing = [key for key in self.required if not isinstance(content, dict) or key not in content]
        if missing:
            raise AnsibleError(
                f"{self.invalid}: {path} lacks {', '.join(missing)}.\nWhat now: compare it with {self.folder}."
            )
        whole: dict[str, Any] = content
        return whole
