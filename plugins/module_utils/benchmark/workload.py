# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked: prompt and answer lengths, shared prefixes, conversations, data sets. Equal seeds ask equal things."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Outgoing
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

# Everyday words: one token each in most vocabularies. The true number is what the server's usage says.
WORDS = [
    "the", "of", "and", "to", "in", "is", "that", "it", "for", "on", "with", "as", "are", "be", "this", "by", "from",
    "at", "or", "an", "river", "stone", "light", "garden", "winter", "music", "paper", "window", "market", "engine",
    "cloud", "letter", "signal", "harbor", "forest", "silver", "bridge", "morning", "kitchen", "doctor", "planet",
    "story", "number", "circle", "animal", "summer", "history", "island", "mountain", "village", "teacher", "machine",
    "science", "weather", "question", "answer",
]  # fmt: skip
KINDS = ("synthetic", "shared_prefix", "multi_turn", "dataset")


@dataclass(frozen=True)
class Length:
    """A length in words or tokens: fixed, or sampled and cut to [low, high].

    kind: fixed (mean), uniform (low..high), normal (mean, deviation), lognormal (median ``mean``, sigma ``deviation``).
    """

    mean: float
    kind: str = "fixed"
    low: int = 1
    high: int = 100_000
    deviation: float = 0.0

    @classmethod
    def parse(cls, value: Any, name: str) -> Length:
        """From a number or a mapping. Raises ConfigurationError WORKLOAD_INVALID."""
        content = dict(value) if isinstance(value, Mapping) else {"mean": value}
        kind = str(content.get("kind") or "fixed")
        try:
            low = int(content.get("min") or 1)
            high = int(content.get("max") or 100_000)
            mean = float(content.get("mean", (low + high) / 2))
            deviation = float(content.get("deviation") or 0.0)
        except (TypeError, ValueError):
            kind, low, high, mean, deviation = "", 1, 1, 0.0, 0.0
        if kind not in ("fixed", "uniform", "normal", "lognormal") or not 1 <= low <= high or not mean >= 1:
            raise ConfigurationError(
                f"{name}: {value!r} is no length.",
                code="WORKLOAD_INVALID",
                remedy="Give a number, or kind (fixed, uniform, normal, lognormal) with mean, min, max, deviation.",
            )
        return cls(mean, kind, low, high, deviation)

    def sample(self, source: random.Random) -> int:
        """One length."""
        if self.kind == "uniform":
            return source.randint(self.low, self.high)
        value = self.mean
        if self.kind == "normal":
            value = source.gauss(self.mean, self.deviation)
        elif self.kind == "lognormal":
            value = self.mean * source.lognormvariate(0.0, self.deviation)
        return max(self.low, min(self.high, round(value)))


@dataclass(frozen=True)
class Question:
    """One turn of a session: what the person says, and how long the answer may be (tokens)."""

    text: str
    output: int


@dataclass(frozen=True)
class Spec:
    """A workload as data. ``dataset`` holds the sessions that ``dataset.read`` returned."""

    model: str
    kind: str = "synthetic"
    api: str = "completions"
    prompt: Length = field(default_factory=lambda: Length(64))
    output: Length = field(default_factory=lambda: Length(64))
    prefix_words: int = 256
    prefix_groups: int = 4
    turns: int = 4
    seed: int = 1
    unique: bool = True
    ignore_eos: bool = True
    temperature: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    dataset: Sequence[Sequence[Question]] = ()


@dataclass
class Item:
    """One request to send. After a success call ``workload.answered(item, text)``: it may bring the next turn."""

    outgoing: Outgoing
    session: int
    turn: int
    questions: Sequence[Question]
    messages: list[dict[str, str]]


class Workload:
    """Hands out requests. Lengths depend on seed and session only, so two targets are asked for the same amounts;
    words depend on ``salt`` too, so that one target's prompts are not in the other's prefix cache."""

    def __init__(self, spec: Spec, salt: str = "", share: tuple[int, int] = (0, 1)) -> None:
        self.spec = spec
        self.wraps = 0
        self._salt = salt
        self._offset, self._stride = share
        self._session = 0
        self._ready: deque[Item] = deque()
        self._order = list(range(len(spec.dataset)))
        random.Random(f"{spec.seed}/order").shuffle(self._order)
        self._prefixes = [self._prefix(group) for group in range(max(1, spec.prefix_groups))]

    def take(self) -> Item:
        """The next request: a conversation's next turn where one is ready, else a new session."""
        if self._ready:
            return self._ready.popleft()
        session = self._session
        self._session += 1
        questions = self._questions(session)
        return self._item(session, 0, questions, [])

    def answered(self, item: Item, text: str) -> None:
        """An answer arrived; the next turn of its session becomes ready."""
        if item.turn + 1 < len(item.questions):
            messages = [*item.messages, {"role": "assistant", "content": text}]
            self._ready.append(self._item(item.session, item.turn + 1, item.questions, messages))

    def _item(self, session: int, turn: int, questions: Sequence[Question], messages: list[dict[str, str]]) -> Item:
        question = questions[turn]
        messages = [*messages, {"role": "user", "content": question.text}]
        path, body = encode(self.spec, messages, question.output)
        return Item(Outgoing(path, body, keep_text=len(questions) > turn + 1), session, turn, questions, messages)

    def _questions(self, session: int) -> Sequence[Question]:
        spec = self.spec
        if spec.kind == "dataset":
            return self._from_dataset(session)
        lengths = random.Random(f"{spec.seed}/lengths/{session}")
        words = random.Random(f"{spec.seed}/{self._salt}/words/{session}")
        turns = spec.turns if spec.kind == "multi_turn" else 1
        questions = []
        for turn in range(turns):
            text = self._text(words, spec.prompt.sample(lengths))
            if turn == 0 and spec.kind == "shared_prefix":
                text = self._prefixes[session % len(self._prefixes)] + " " + text
            questions.append(Question(text, spec.output.sample(lengths)))
        return questions

    def _text(self, words: random.Random, count: int) -> str:
        """``count`` words; the first one is used once only where prompts must be unique."""
        chosen = words.choices(WORDS, k=count)
        if self.spec.unique:
            chosen[0] = f"{words.getrandbits(40):010x}"
        return " ".join(chosen)

    def _prefix(self, group: int) -> str:
        source = random.Random(f"{self.spec.seed}/{self._salt}/prefix/{group}")
        words = source.choices(WORDS, k=max(0, self.spec.prefix_words - 1))
        return " ".join([f"{source.getrandbits(40):010x}", *words])

    def _from_dataset(self, session: int) -> Sequence[Question]:
        """Entries in shuffled order, every ``stride``-th one; from the start again when all are used."""
        position = self._offset + session * self._stride
        self.wraps = max(self.wraps, position // len(self._order))
        return self.spec.dataset[self._order[position % len(self._order)]]


def encode(spec: Spec, messages: list[dict[str, str]], output: int) -> tuple[str, bytes]:
    """Path and body of a streaming request that asks for the token counts at the end."""
    body: dict[str, Any] = {"model": spec.model}
    if spec.api == "chat":
        path = "/v1/chat/completions"
        body["messages"] = messages
        body["max_completion_tokens"] = output
    else:
        path = "/v1/completions"
        body["prompt"] = "\n".join(message["content"] for message in messages)
    body["max_tokens"] = output
    body["temperature"] = spec.temperature
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    if spec.ignore_eos:
        body["ignore_eos"] = True
    body.update(spec.extra)
    return path, json.dumps(body).encode()
