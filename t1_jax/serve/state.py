"""What a server is doing: loading, ready, draining, or failed."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

from t1_jax.serve.config import ServerConfig
from t1_jax.serve.failures import unavailable
from t1_jax.serve.metrics import Metrics
from t1_jax.serve.service import Service

Status = Literal["loading", "ready", "draining", "failed"]
Load = Callable[[ServerConfig, Metrics], Service]
"""Reads model and index; called once, in a thread."""

_LOG = logging.getLogger("t1_jax.serve")


class ServerState:
    """The service once it is loaded, and whether requests are let in.

    Attributes:
        config: limits.
        metrics: counters.
        failure: why loading failed.
    """

    def __init__(self, config: ServerConfig, load: Load) -> None:
        self.config, self.metrics = config, Metrics()
        self.failure: BaseException | None = None
        self._load = load
        self._service: Service | None = None
        self._drain_ends: float | None = None
        self._loading: asyncio.Task[None] | None = None

    @property
    def status(self) -> Status:
        """What `/health` says."""
        if self._drain_ends is not None:
            return "draining"
        if self.failure is not None:
            return "failed"
        if self._service is None:
            return "loading"
        return "ready" if self._service.engine.is_alive else "failed"

    def require_service(self) -> Service:
        """The service.

        Raises:
            RequestError: 503 while it is loading or draining.
        """
        if self.status != "ready" or self._service is None:
            raise unavailable(self.status)
        return self._service

    def start(self) -> None:
        """Begins to load, in a thread."""
        self._loading = asyncio.get_running_loop().create_task(self._start())

    async def ready(self) -> None:
        """Returns once it is loaded, or ends before that; raises what made loading fail."""
        assert self._loading is not None
        await asyncio.wait([self._loading])
        if self.failure is not None:
            raise self.failure

    def begin_drain(self) -> None:
        """From now on new requests get 503; those that were accepted have `drain_seconds`."""
        if self._drain_ends is None:
            self._drain_ends = time.monotonic() + self.config.drain_seconds

    @property
    def drain_seconds_left(self) -> float:
        """Seconds that accepted requests still have: one deadline for all waits of a drain."""
        if self._drain_ends is None:
            return self.config.drain_seconds
        return max(self._drain_ends - time.monotonic(), 0.0)

    async def drained(self) -> bool:
        """Waits until nothing is left to do; False if the time was over and the rest failed."""
        while self._service is not None and not self._service.engine.is_idle:
            if not self.drain_seconds_left:
                self.abort()
                return False
            await asyncio.sleep(0.05)
        return True

    def abort(self) -> None:
        """Ends loading, and fails what the engine works on; returns at once."""
        self._drain_ends = time.monotonic()
        if self._loading is not None:
            self._loading.cancel()
        if self._service is not None:
            self._service.engine.abort()

    async def stop(self) -> None:
        """Ends the engine once its jobs are done, or fails them at the deadline of the drain."""
        self.begin_drain()
        if self._loading is not None:  # requests get 503 while it loads, and none waits for it
            self._loading.cancel()
            await asyncio.wait([self._loading])
        if self._service is not None:
            await asyncio.to_thread(self._service.engine.stop, self.drain_seconds_left)

    async def _start(self) -> None:
        try:
            service = await asyncio.wrap_future(self._load_in_thread())
            try:
                await service.warm_up()
            except BaseException:
                service.engine.abort()
                raise
        except Exception as error:
            self.failure = error
            _LOG.error("loading failed: %s", error)
        else:
            self._service = service

    def _load_in_thread(self) -> "Future[Service]":
        """Loads in a daemon thread: one of an executor would hold up the end of the process."""
        loaded: Future[Service] = Future()

        def load() -> None:
            try:
                service = self._load(self.config, self.metrics)
            except BaseException as error:
                if loaded.set_running_or_notify_cancel():
                    loaded.set_exception(error)
                return
            if loaded.set_running_or_notify_cancel():
                loaded.set_result(service)
            else:
                service.engine.abort()

        threading.Thread(target=load, name="t1-load", daemon=True).start()
        return loaded
