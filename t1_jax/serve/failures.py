"""Errors as a client sees them: a status, and a JSON body with type, message, field and hint."""

from collections.abc import Mapping
from typing import Any

from t1_jax.errors import ConfigError, DataError, T1Error


class RequestError(Exception):
    """A request that gets an error as its answer.

    Attributes:
        status: HTTP status, as in text-embeddings-inference where it has one for the case.
        type: what kind of error it is, for programs.
        message: what is wrong, for people.
        hint: what to do.
        field: the part of the request, such as `input.3`; None if it is not one part.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        type: str,
        message: str,
        *,
        hint: str,
        field: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.status = status
        self.type = type
        self.message = message
        self.field = field
        self.hint = hint
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer; `param` is `field` under the name that OpenAI's clients read."""
        error = {
            "type": self.type,
            "message": self.message,
            "field": self.field,
            "param": self.field,
            "hint": self.hint,
        }
        return {"error": error}

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="t1"'  # a browser then asks for the key
        return headers


RETRY_HINT = "send it again after the seconds of the header Retry-After"


def invalid(message: str, *, hint: str, field: str | None = None) -> RequestError:
    """Status 422: well-formed JSON that asks for something impossible."""
    return RequestError(422, "validation", message, field=field, hint=hint)


def backend_failure(message: str, *, hint: str | None = None) -> RequestError:
    """Status 424: the model failed on this request."""
    return RequestError(
        424, "backend", message,
        hint=hint or "send it again; if it fails again, the server's log says why",
    )  # fmt: skip


def internal_failure(error: Exception) -> RequestError:
    """Status 500: a bug of the server."""
    return RequestError(
        500, "internal", f"the server failed: {type(error).__name__}",
        hint="report it with the traceback in the server's log",
    )  # fmt: skip


def cancelled() -> RequestError:
    """Status 499: the client went away, so only the metrics see it."""
    return RequestError(499, "cancelled", "the client went away", hint="wait for the answer")


def overloaded(waiting: int, retry_after: int) -> RequestError:
    """Status 429: too much is waiting already."""
    return RequestError(
        429,
        "overloaded",
        f"{waiting:,} tokens are waiting, and the server takes no more",
        hint=RETRY_HINT,
        retry_after=retry_after,
    )


def unavailable(state: str) -> RequestError:
    """Status 503: the model is still loading, failed to load, or the server is shutting down."""
    hints = {
        "loading": "send it again once GET /health answers with 200",
        "draining": "send it to another server, or once this one has started again",
    }
    hint = hints.get(state, "start the server again; its log says what failed")
    retry_after = 5 if state in hints else None
    return RequestError(
        503, "unavailable", f"the server is {state}", hint=hint, retry_after=retry_after
    )


def from_t1_error(error: T1Error, *, field: str | None = None) -> RequestError:
    """An error of the package, in the form of the service."""
    if isinstance(error, (ConfigError, DataError)):
        hint = error.hint or f"change {field or 'the request'}"
        return invalid(error.message, field=field, hint=hint)
    return backend_failure(error.message, hint=error.hint)
