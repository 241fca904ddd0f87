"""Requests to an OpenAI-compatible endpoint, with retries."""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from t1_jax.errors import ConfigError, T1Error

_RETRIED_STATUSES = frozenset((408, 409, 425, 429))
_REQUEST_STATUSES = frozenset((400, 413, 422))  # too long, or rejected by a content filter
_MAX_BACKOFF_S = 60.0
_MAX_QUOTED = 300


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible endpoint.

    Attributes:
        url: without `/chat/completions`, for example http://localhost:8000/v1.
        key: bearer token; None sends none.
        timeout_s: seconds for one answer, above 0.
        retries: further attempts after no connection, a time-out, an unreadable answer, or a status
            of 408, 409, 425, 429 or 5xx.
        backoff_s: seconds before the first retry; doubled each time, up to a minute. A longer
            `Retry-After` of the endpoint takes precedence.

    Raises:
        ConfigError: the URL is not http or https, or a number is out of its range.
    """

    url: str
    key: str | None = None
    timeout_s: float = 120.0
    retries: int = 6
    backoff_s: float = 1.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                f"{self.url!r} is not the address of an endpoint",
                hint="give it as http://HOST:PORT/v1",
            )
        if self.timeout_s <= 0 or self.retries < 0 or self.backoff_s < 0:
            raise ConfigError(
                f"timeout_s {self.timeout_s}, retries {self.retries} and backoff_s "
                f"{self.backoff_s} must not be negative, and the first not 0"
            )


class EndpointError(T1Error):
    """An endpoint rejected a request, or failed too often."""


class RequestRejectedError(EndpointError):
    """The endpoint rejected this request; it may accept others."""


def complete_chat(
    endpoint: Endpoint, body: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep
) -> str:
    """The text of the first choice; `body` is that of OpenAI's `POST /chat/completions`.

    Raises:
        RequestRejectedError: a status of 400, 413 or 422.
        EndpointError: another status of 4xx, or it failed `retries` + 1 times.
    """
    reason = ""
    for attempt in range(endpoint.retries + 1):
        try:
            return _content(_post(endpoint, body))
        except urllib.error.HTTPError as error:
            message = _message(error)
            reason = f"status {error.code}: {message or error.reason}"
            if error.code not in _RETRIED_STATUSES and error.code < 500:
                kind = RequestRejectedError if error.code in _REQUEST_STATUSES else EndpointError
                raise kind(
                    f"{endpoint.url} rejected a request with {reason}",
                    hint="check the address, the teacher's name and the key (T1_TEACHER_KEY)",
                ) from error
            retry_after = error.headers.get("Retry-After", "")
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason, retry_after = f"{type(error).__name__}: {error}", ""
        if attempt < endpoint.retries:
            sleep(_pause(endpoint, attempt, retry_after))
    raise EndpointError(
        f"{endpoint.url} failed {endpoint.retries + 1} times, the last time with {reason}",
        hint="run the same command again later; all answers so far are kept",
    )


def _post(endpoint: Endpoint, body: Mapping[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    request = urllib.request.Request(
        f"{endpoint.url.rstrip('/')}/chat/completions",
        data=json.dumps(body).encode(),
        headers=headers,
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=endpoint.timeout_s) as response:
        return json.loads(response.read())


def _message(error: urllib.error.HTTPError) -> str:
    """The start of the body of an error response; empty if it cannot be read."""
    try:
        with error:
            return error.read(_MAX_QUOTED).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _content(answer: Any) -> str:
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no choices[0].message.content in {str(answer)[:_MAX_QUOTED]}") from error
    if isinstance(content, list):  # in parts, as some servers send it
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise ValueError(f"choices[0].message.content is not text: {str(content)[:_MAX_QUOTED]}")
    if content and any("\ud800" <= letter <= "\udfff" for letter in content):
        # Valid in JSON, not in UTF-8.
        raise ValueError(f"unpaired surrogate in {content[:_MAX_QUOTED]!a}")
    return content or ""  # null if all tokens went into hidden reasoning


def _pause(endpoint: Endpoint, attempt: int, retry_after: str) -> float:
    backoff = min(endpoint.backoff_s * 2**attempt, _MAX_BACKOFF_S)
    return max(backoff, min(float(retry_after), _MAX_BACKOFF_S) if retry_after.isdigit() else 0.0)
