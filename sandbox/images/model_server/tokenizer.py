"""A lossless pretend tokenizer, and the pretend words a model answers with. No vocabulary; always the same result."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

# A word piece of up to six letters with the space before it, up to three digits, a chat marker, else one character.
# English comes to about four characters a token, as with real vocabularies.
_TOKEN = re.compile(r"<[a-z_]+>| ?[A-Za-z]{1,6}| ?[0-9]{1,3}|.", re.DOTALL)

_WORDS = re.findall(
    r"\w+",
    "the answer is that a model reads every token before it and gives one more so each request waits its turn while "
    "blocks of memory fill and empty again the gateway asks which pod has least to do and which pod has seen these "
    "words already then it sends them there and the client sees text arrive piece by piece until the end of the line"
)


def tokenize(text: str) -> list[str]:
    """Tokens whose concatenation is ``text`` again."""
    return _TOKEN.findall(text)


def fingerprint(*parts: object) -> int:
    """A number that follows from the parts alone (not from the process, as ``hash`` would)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def natural_length(seed: int) -> int:
    """How many tokens the pretended model says before it stops by itself: 12 to 75."""
    return 12 + (seed >> 8) % 64


def words(seed: int) -> Iterator[str]:
    """An endless deterministic stream of tokens: sentences of lower-case words with the first one capitalised."""
    position = seed % len(_WORDS)
    count = 0
    while True:
        word = _WORDS[position]
        yield (" " if count else "") + (word.capitalize() if count % 11 == 0 else word)
        count += 1
        if count % 11 == 0:
            yield "."
        position = (position * 5 + seed % 97 + count) % len(_WORDS)


def cut_at_stop(text: str, stops: Sequence[str]) -> str | None:
    """``text`` up to the first stop string in it, or None where it has none."""
    places = [place for place in (text.find(stop) for stop in stops if stop) if place >= 0]
    return text[: min(places)] if places else None
