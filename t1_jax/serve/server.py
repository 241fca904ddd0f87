"""Runs the application: connections that a slow or greedy client cannot use up, and a drain."""

import asyncio
import json
import logging
import math
from http import HTTPStatus
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from t1_jax.serve.config import ServerConfig
from t1_jax.serve.failures import RETRY_HINT, RequestError
from t1_jax.serve.state import ServerState

_LOG = logging.getLogger("t1_jax.serve")

_ANSWER_SECONDS = 5
"""Time in which the last answers must have reached their clients, after the drain."""

_TOO_MANY = RequestError(503, "unavailable", "too many connections", hint=RETRY_HINT, retry_after=5)
_NOT_HTTP = RequestError(
    400, "malformed", "this is not a request of HTTP/1.1",
    hint="send plain HTTP (there is no TLS here), with headers of less than 64 kB",
)  # fmt: skip


class _Connection(H11Protocol):
    """A connection that is closed if there are too many, or if no request arrives in time."""

    limits: ServerConfig
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._turn_away(_TOO_MANY)
            return
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()  # from here on the body has a limit of its own

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request, unless an answer is on its way already."""
        if self.cycle is None or self.cycle.response_complete:
            self._turn_away(_NOT_HTTP)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _turn_away(self, error: RequestError) -> None:
        body = json.dumps(error.body).encode()
        headers = {
            "content-type": "application/json", "content-length": str(len(body)),
            "connection": "close", **error.headers,
        }  # fmt: skip
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self.limits.client_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """Listens until it is told to end; then it finishes what it has accepted.

    The first SIGTERM or SIGINT drains: `/health` says so, new requests get 503, accepted ones are
    answered within `drain_seconds`, or fail with 503. A second signal closes all connections.
    """

    def __init__(self, app: Starlette, config: ServerConfig) -> None:
        protocol = type("_Connection", (_Connection,), {"limits": config})
        super().__init__(
            uvicorn.Config(
                app,
                host=config.host,
                port=config.port,
                http=protocol,
                ws="none",
                loop="asyncio",
                lifespan="on",
                access_log=False,
                log_level="warning",
                server_header=False,
                date_header=True,
                proxy_headers=False,
                backlog=2048,
                timeout_keep_alive=int(max(config.client_seconds, 1)),
                timeout_graceful_shutdown=math.ceil(config.drain_seconds) + _ANSWER_SECONDS,
            )
        )
        self._state: ServerState = app.state.server
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once it has started."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def startup(self, sockets: Any = None) -> None:
        """Begins to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends."""
        if self._state.status != "draining" and self._loop is not None:
            self._state.begin_drain()
            self._loop.call_soon_threadsafe(self._begin_drain)
            return
        super().handle_exit(sig, frame)
        self.force_exit = False  # with it uvicorn would leave out the end of the application
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_at_once)

    def _begin_drain(self) -> None:
        _LOG.warning("draining: accepted requests are finished, new ones are turned away")
        self._drain = asyncio.get_running_loop().create_task(self._end_when_drained())

    async def _end_when_drained(self) -> None:
        if not await self._state.drained():
            _LOG.error("not everything was finished in time")
        left = math.ceil(self._state.drain_seconds_left)
        self.config.timeout_graceful_shutdown = left + _ANSWER_SECONDS
        self.should_exit = True

    def _end_at_once(self) -> None:
        self._state.abort()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
