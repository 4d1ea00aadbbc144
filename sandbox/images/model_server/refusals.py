"""What vLLM answers when it will not serve a request: the JSON bodies and their words."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

NAMES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 500: "InternalServerError"}


class Refusal(Exception):
    """A request that is answered with an error body; ``kind`` overrides the type that follows from the status."""

    def __init__(self, status: int, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or NAMES.get(status, HTTPStatus(status).phrase)

    def answer(self) -> web.Response:
        error = {"message": self.message, "type": self.kind, "param": None, "code": self.status}
        return web.json_response({"error": error}, status=self.status)


def unknown_model(name: str) -> Refusal:
    return Refusal(404, f"The model `{name}` does not exist.")


def too_long(limit: int, prompt: int, completion: int) -> Refusal:
    return Refusal(
        400,
        f"This model's maximum context length is {limit} tokens. However, you requested {prompt + completion} tokens "
        f"({prompt} in the messages, {completion} in the completion). "
        "Please reduce the length of the messages or completion",
    )


def not_json(reason: str) -> Refusal:
    """The body is not JSON: FastAPI's validation error, as vLLM hands it on."""
    detail = {"type": "json_invalid", "loc": ("body", 0), "msg": "JSON decode error", "input": {}}
    return Refusal(400, str([{**detail, "ctx": {"error": reason}}]), "Bad Request")


def missing(*place: str) -> Refusal:
    """A required field (or, without a name, the whole body) is not there."""
    detail = {"type": "missing", "loc": ("body", *place), "msg": "Field required", "input": None}
    return Refusal(400, str([detail]), "Bad Request")


def invalid(place: str, kind: str, message: str, value: object) -> Refusal:
    """A field has a value that vLLM's request model refuses."""
    return Refusal(400, str([{"type": kind, "loc": ("body", place), "msg": message, "input": value}]), "Bad Request")
