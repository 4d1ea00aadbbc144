"""Request bodies: JSON to a typed request, or a refusal in vLLM's words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sandbox.images.model_server import refusals, transfer
from sandbox.images.model_server.engine import Job
from sandbox.images.model_server.tokenizer import tokenize

DEFAULT_COMPLETION_TOKENS = 16


@dataclass(frozen=True)
class Parsed:
    """A checked request: one job for every (prompt, answer) pair, in the order of the choices."""

    model: str
    jobs: tuple[Job, ...]
    prompts: tuple[str, ...]  # text of each job's prompt, for ``echo``
    stream: bool
    include_usage: bool
    echo: bool


def parse(
    body: Any,
    *,
    chat: bool,
    names: tuple[str, ...],
    family: str,
    max_model_len: int,
    adapters: Collection[str] = (),
) -> Parsed:
    """Check a request body. ``family`` is the model's type (``gemma`` has its own chat rules).

    ``names``: of the model, ``adapters``: of its LoRA adapters. Raises Refusal.
    """
    if not isinstance(body, dict):
        raise refusals.invalid("", "model_attributes_type", "Input should be a valid dictionary", body)
    model = body.get("model") or names[0]
    if model not in names and model not in adapters:
        raise refusals.unknown_model(str(model))
    prompts = [chat_prompt(body, family)] if chat else _prompts(body)
    count = _integer(body, "n", 1, least=1)
    stream = bool(body.get("stream"))
    options = body.get("stream_options") or {}
    if options and not stream:
        raise refusals.Refusal(400, "Stream options can only be defined when `stream=True`.")
    jobs: list[Job] = []
    texts: list[str] = []
    for tokens, text in prompts:
        limit = _limit(body, chat=chat, prompt=len(tokens), max_model_len=max_model_len)
        for index in range(count):
            texts.append(text)
            jobs.append(_job(body, tokens, limit, index, model if model in adapters else ""))
    return Parsed(model, tuple(jobs), tuple(texts), stream, bool(options.get("include_usage")), bool(body.get("echo")))


def _job(body: dict[str, Any], tokens: list[str], limit: int, index: int, adapter: str) -> Job:
    stop = body.get("stop") or []
    return Job(
        prompt=tokens,
        max_tokens=limit,
        min_tokens=_integer(body, "min_tokens", 0, least=0),
        ignore_eos=bool(body.get("ignore_eos")),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=_integer(body, "seed", 0, least=None) + index,
        adapter=adapter,
        transfer=transfer.read(body.get("kv_transfer_params")),
    )


def _integer(body: dict[str, Any], name: str, default: int, *, least: int | None) -> int:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusals.invalid(name, "int_parsing", "Input should be a valid integer", value)
    if least is not None and value < least:
        raise refusals.Refusal(400, f"{name} must be at least {least}, got {value}.")
    return value


def _limit(body: dict[str, Any], *, chat: bool, prompt: int, max_model_len: int) -> int:
    """How many tokens may be generated; refuses what cannot fit the context."""
    name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    asked = _integer(body, name, -1, least=None)
    if asked == 0 or asked < -1:
        raise refusals.Refusal(400, f"max_tokens must be at least 1, got {asked}.")
    if asked == -1:
        asked = max(1, max_model_len - prompt) if chat else DEFAULT_COMPLETION_TOKENS
        if not chat and prompt < max_model_len:
            asked = min(asked, max_model_len - prompt)
    if prompt + asked > max_model_len:
        raise refusals.too_long(max_model_len, prompt, asked)
    return asked


def _prompts(body: dict[str, Any]) -> list[tuple[list[str], str]]:
    """Prompts of a completion: a text, a list of texts, token numbers, or a list of lists of them."""
    prompt = body.get("prompt")
    if prompt is None:
        raise refusals.missing("prompt")
    if isinstance(prompt, str):
        return [(tokenize(prompt), prompt)]
    if isinstance(prompt, list) and prompt:
        if all(isinstance(item, str) for item in prompt):
            return [(tokenize(item), item) for item in prompt]
        if all(isinstance(item, int) for item in prompt):
            prompt = [prompt]
        if all(isinstance(item, list) for item in prompt):
            return [([f"<{number}>" for number in item], "".join(f"<{number}>" for number in item)) for item in prompt]
    raise refusals.invalid("prompt", "string_type", "Input should be a valid string", prompt)


def chat_prompt(body: dict[str, Any], family: str) -> tuple[list[str], str]:
    """Messages through the chat template; Gemma's knows no system role and wants user and model to alternate."""
    messages = body.get("messages")
    if messages is None:
        raise refusals.missing("messages")
    if not isinstance(messages, list) or not messages:
        raise refusals.Refusal(400, "list index out of range None" if messages == [] else "messages must be a list")
    gemma = family.startswith("gemma")
    text = "<bos>"
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise refusals.invalid("messages", "missing", "Field required", message)
        role = message["role"]
        if gemma and role == "system" and position == 0:
            # The template raises; vLLM prints the exception and its cause, which is None.
            raise refusals.Refusal(400, "System role not supported None")
        if gemma and (role == "user") != (position % 2 == 0):
            raise refusals.Refusal(400, "Conversation roles must alternate user/assistant/user/assistant/... None")
        shown = "model" if gemma and role == "assistant" else role
        text += f"<start_of_turn>{shown}\n{_content(message)}<end_of_turn>\n"
    text += "<start_of_turn>model\n"
    return tokenize(text), text


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
