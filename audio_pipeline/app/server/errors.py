"""Errors of the API: one line of JSON, never a path, a traceback or a version."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from audio_pipeline.app.text import visible


class ApiError(Exception):
    """A request that cannot be served.

    Parameters
    ----------
    status
        HTTP status, 400-599.
    code
        A word for programs, such as ``too_large``; stable within an API version.
    message
        One line for people: what, which value, what to do.
    headers
        Extra response headers, such as ``Retry-After``.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = visible(" ".join(message.split()))
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """Return the error as ``{"error": message, "code": code}``."""
        return JSONResponse(
            {"error": self.message, "code": self.code},
            status_code=self.status,
            headers=self.headers,
        )


def busy(seconds: int) -> ApiError:
    """Return the answer to a request that found the queue full."""
    return ApiError(
        503,
        "busy",
        f"The server is busy with other recordings. Try again in {seconds} seconds.",
        {"Retry-After": str(seconds)},
    )


def refuse_body(status: int, code: str, message: str) -> ApiError:
    """Return an error that also ends the connection: the rest of the body is not wanted."""
    return ApiError(status, code, message, {"Connection": "close"})
