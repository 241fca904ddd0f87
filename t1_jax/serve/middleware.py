"""What happens to every request: keys, foreign pages, security headers, errors, counting."""

import base64
import binascii
import logging
import secrets
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t1_jax.serve.config import API_KEY_VARIABLE, ServerConfig
from t1_jax.serve.failures import RequestError, internal_failure
from t1_jax.serve.metrics import Metrics

_LOG = logging.getLogger("t1_jax.serve")

_OPEN = "/health"
"""The one route without a key: a load balancer asks it."""
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]", "testserver"}

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """The outermost layer of the application, as plain ASGI so that streams pass untouched."""

    def __init__(self, app: ASGIApp, config: ServerConfig, metrics: Metrics) -> None:
        self._app, self._config, self._metrics = app, config, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["path"])
            await self._app(scope, receive, send_with_headers)
        except RequestError as error:
            if not status:
                await error_response(error)(scope, receive, send_with_headers)
        except Exception as error:
            _LOG.exception("a bug in %s", scope["path"])
            if status:
                raise
            await error_response(internal_failure(error))(scope, receive, send_with_headers)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", None) or "other"
            self._metrics.request(path, status, time.monotonic() - started)

    def _check(self, headers: Headers, path: str) -> None:
        """Raises RequestError: 401 without a key, 403 for a page of another site."""
        if path == _OPEN:
            return
        host = headers.get("host", "")
        if self._config.is_local and not self._config.api_keys:
            # A page whose name was made to resolve to this machine (DNS rebinding) names itself.
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if name.lower() not in _LOCAL_HOSTS:
                raise RequestError(
                    403, "forbidden", f"the host {name!r} is not this machine",
                    hint="use 127.0.0.1 or localhost, or start the server with an API key",
                )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            allowed = self._config.cors_origins
            if origin not in allowed:
                raise RequestError(
                    403, "forbidden", f"pages of {origin} may not use this server",
                    hint=f"start it with --cors-origin {origin}",
                )  # fmt: skip
        if self._config.api_keys and not self._has_key(headers.get("authorization", "")):
            raise RequestError(
                401, "unauthorized", "a valid API key is needed",
                hint=f"send the header Authorization: Bearer KEY (--api-key-file, "
                f"{API_KEY_VARIABLE})",
            )  # fmt: skip

    def _has_key(self, authorization: str) -> bool:
        """Bearer, or the password of Basic, which browsers ask for."""
        scheme, _, value = authorization.partition(" ")
        key = value.strip()
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        matches = [
            secrets.compare_digest(key.encode(), known.encode()) for known in self._config.api_keys
        ]
        return any(matches)


def error_response(error: RequestError) -> Response:
    """The JSON answer of an error."""
    return JSONResponse(error.body, status_code=error.status, headers=dict(error.headers))


async def on_http_error(_: Request, error: Exception) -> Response:
    """An unknown route, or a method that a route does not have."""
    assert isinstance(error, HTTPException)
    kinds = {404: "not_found", 405: "method_not_allowed"}
    failure = RequestError(
        error.status_code,
        kinds.get(error.status_code, "http"),
        str(error.detail),
        hint="GET /info says what this server is; docs/serving.md lists the routes",
    )
    response = error_response(failure)
    response.headers.update(error.headers or {})
    return response


async def on_request_error(_: Request, error: Exception) -> Response:
    """A request that a route rejected."""
    assert isinstance(error, RequestError)
    return error_response(error)
