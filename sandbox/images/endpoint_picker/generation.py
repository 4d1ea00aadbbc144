"""Which generation of the Gateway API inference extension the stand-in is; its image says so by the environment.

v1.2.0 is the first one modelled. From v1.3.0 on the picker also watches InferenceModelRewrite and cannot start where
that kind does not exist, and vLLM's newer name of the KV cache metric is the default.
"""

from __future__ import annotations

import os

ENV_GENERATION = "LLMD_SANDBOX_PICKER_GENERATION"
FIRST = "v1.2.0"


def number(version: str) -> tuple[int, ...]:
    """``v1.4.0`` -> (1, 4, 0)."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))


def later() -> bool:
    """Whether this process stands for v1.3.0 or later."""
    return number(os.environ.get(ENV_GENERATION) or FIRST) >= (1, 3, 0)
