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
        field: the part of the request, such as `input.3`; None if it is not one part.
        hint: what to do.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        type: str,
        message: str,
        *,
        field: str | None = None,
        hint: str | None = None,
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


def invalid(message: str, *, field: str | None = None, hint: str | None = None) -> RequestError:
    """Status 422: well-formed JSON that asks for something impossible."""
    return RequestError(422, "validation", message, field=field, hint=hint)


def backend_failure(message: str, *, hint: str | None = None) -> RequestError:
    """Status 424: the model failed on this request."""
    return RequestError(424, "backend", message, hint=hint)


def overloaded(waiting: int, retry_after: int) -> RequestError:
    """Status 429: too much is waiting already."""
    return RequestError(
        429,
        "overloaded",
        f"{waiting:,} tokens are waiting, and the server takes no more",
        hint="send it again after the seconds of the header Retry-After",
        retry_after=retry_after,
    )


def unavailable(state: str, *, retry_after: int = 5) -> RequestError:
    """Status 503: the model is still loading, or the server is shutting down."""
    return RequestError(503, "unavailable", f"the server is {state}", retry_after=retry_after)


def from_t1_error(error: T1Error, *, field: str | None = None) -> RequestError:
    """An error of the package, in the form of the service."""
    if isinstance(error, (ConfigError, DataError)):
        return invalid(error.message, field=field, hint=error.hint)
    return backend_failure(error.message, hint=error.hint)
