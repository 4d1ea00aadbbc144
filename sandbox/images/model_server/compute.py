"""When computing is done: one accelerator that prefills prompts one after another, in chunks, between decode steps.

A step of vLLM's engine gives every running answer one token and fills the rest of its token budget with a piece of the
oldest prompt. So prompts queue for the accelerator, and while they do, each token of a running answer waits for one
piece at the most. Only what other requests still have to compute is looked at; the decode steps themselves are free.
"""

from __future__ import annotations


class Accelerator:
    """``per_token``: seconds to prefill one token; ``chunk``: most prompt tokens in one step."""

    def __init__(self, per_token: float, chunk: int) -> None:
        self._per_token = per_token
        self._piece = chunk * per_token
        self._busy_until = 0.0

    def prefill(self, tokens: int, now: float) -> float:
        """When a prompt that arrives now, of so many tokens to compute, is through."""
        if tokens <= 0:
            return now
        self._busy_until = max(self._busy_until, now) + tokens * self._per_token
        return self._busy_until

    def next_token(self, last: float, step: float) -> float:
        """When the token after the one of ``last`` comes, if an idle accelerator took ``step`` for it."""
        behind = max(0.0, self._busy_until - last)
        return last + step + min(behind, self._piece)
