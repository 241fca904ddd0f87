"""One question to an OpenAI-compatible endpoint: asked again where that can help."""

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

_WORTH_ASKING_AGAIN = frozenset((408, 409, 425, 429))
_OF_THE_QUESTION = frozenset((400, 413, 422))  # too long, or more than a content filter lets pass
_MOST_SECONDS_BETWEEN = 60.0
_QUOTED = 300


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a teacher is asked.

    Attributes:
        url: up to and without `/chat/completions`, for example http://localhost:8000/v1.
        key: sent as a bearer token; None sends none.
        timeout_s: seconds for one answer, above 0.
        retries: further attempts after one that failed in a way that may pass: no connection, a
            time-out, an unreadable answer, or a status of 408, 409, 425, 429 or 5xx.
        backoff_s: seconds before the first of them; doubled each time, up to a minute. What the
            endpoint asks for in `Retry-After` counts if it is longer.

    Raises:
        ConfigError: the URL is not one of http or https, or a number out of its range.
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
    """An endpoint that refused a question, or failed too often."""


class QuestionRefusedError(EndpointError):
    """The endpoint is there and will not have this question; it may have others."""


def complete_chat(
    endpoint: Endpoint, body: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep
) -> str:
    """The text of the first choice.

    Args:
        endpoint: who is asked.
        body: of the request, as of OpenAI's `POST /chat/completions`.
        sleep: how to wait.

    Raises:
        QuestionRefusedError: a status of 400, 413 or 422.
        EndpointError: nobody may ask that there, or it failed `retries` + 1 times.
    """
    reason = "nothing asked"
    for attempt in range(endpoint.retries + 1):
        try:
            return _content(_post(endpoint, body))
        except urllib.error.HTTPError as error:
            said = _said(error)
            reason = f"status {error.code}: {said or error.reason}"
            if error.code not in _WORTH_ASKING_AGAIN and error.code < 500:
                refused = QuestionRefusedError if error.code in _OF_THE_QUESTION else EndpointError
                raise refused(
                    f"{endpoint.url} refused a question with {reason}",
                    hint="check the address, the teacher's name and the key (T1_TEACHER_KEY)",
                ) from error
            asked_for = error.headers.get("Retry-After", "")
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason, asked_for = f"{type(error).__name__}: {error}", ""
        if attempt < endpoint.retries:
            sleep(_pause(endpoint, attempt, asked_for))
    raise EndpointError(
        f"{endpoint.url} failed {endpoint.retries + 1} times, the last time with {reason}",
        hint="run the same command again when it answers: what it answered so far is kept",
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
    with urllib.request.urlopen(request, timeout=endpoint.timeout_s) as answer:
        return json.loads(answer.read())


def _said(error: urllib.error.HTTPError) -> str:
    """The start of what an error response says; its body may break off, or never come."""
    try:
        with error:
            return error.read(_QUOTED).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _content(answer: Any) -> str:
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no choices[0].message.content in {str(answer)[:_QUOTED]}") from error
    if isinstance(content, list):  # in parts, as some servers send it
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise ValueError(f"choices[0].message.content is no text: {str(content)[:_QUOTED]}")
    if content and any("\ud800" <= letter <= "\udfff" for letter in content):
        raise ValueError(f"half a letter in {content[:_QUOTED]!a}")  # JSON can hold it, no file can
    return content or ""  # null where a model refuses or spends all tokens on hidden reasoning


def _pause(endpoint: Endpoint, attempt: int, asked_for: str) -> float:
    own = min(endpoint.backoff_s * 2**attempt, _MOST_SECONDS_BETWEEN)
    return max(own, min(float(asked_for), _MOST_SECONDS_BETWEEN) if asked_for.isdigit() else 0.0)
