"""The README and the guides as their readers use them: blocks of code, commands, examples."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "awx/README.md")),
    REPOSITORY / "extensions/molecule/README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted(REPOSITORY.glob("roles/*/README.md")),
]
_FENCED = re.compile(r"^```([a-z]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    \S.*\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of code of a document."""

    document: Path
    language: str
    text: str

    @property
    def is_shell(self) -> bool:
        return self.language in ("", "bash", "console")

    def commands(self) -> list[list[str]]:
        """The words of its commands, in order; those of a pipe or a list one by one."""
        joined = self.text.replace("\\\n", " ").replace(" && ", "\n").replace(" | ", "\n")
        lines = (shlex.split(line, comments=True) for line in joined.splitlines())
        return [words for words in lines if words]


def blocks(document: Path) -> list[Block]:
    """All blocks of a document, fenced or (where none is) indented ones."""
    text = document.read_text(encoding="utf-8")
    fenced = [Block(document, language, body) for language, body in _FENCED.findall(text)]
    if fenced or document.parent.name not in ("awx", "molecule"):
        return fenced  # an indented line below an item of a list is no code
    return [Block(document, "", re.sub("^    ", "", one, flags=re.MULTILINE)) for one in _INDENTED.findall(text)]


def all_blocks() -> list[Block]:
    """The blocks of all documents."""
    return [block for document in DOCUMENTS for block in blocks(document)]
