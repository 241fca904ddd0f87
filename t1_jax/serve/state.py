"""What a server is doing: loading, ready, draining, or failed."""

import asyncio
import logging
from collections.abc import Callable
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
        self._is_draining = False
        self._loading: asyncio.Task[None] | None = None

    @property
    def status(self) -> Status:
        """What `/health` says."""
        if self._is_draining:
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
        """Returns once the service is loaded; raises what made it fail."""
        assert self._loading is not None
        await asyncio.shield(self._loading)
        if self.failure is not None:
            raise self.failure

    def begin_drain(self) -> None:
        """From now on new requests get 503; those that were accepted are finished."""
        self._is_draining = True

    async def drained(self) -> None:
        """Returns once nothing is left to do."""
        while self._service is not None and not self._service.engine.is_idle:
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Ends the engine once its jobs are done."""
        self.begin_drain()
        if self._loading is not None:
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._service is not None:
            await asyncio.to_thread(self._service.engine.stop, self.config.drain_seconds)

    async def _start(self) -> None:
        try:
            service = await asyncio.to_thread(self._load, self.config, self.metrics)
            await service.warm_up()
        except Exception as error:
            self.failure = error
            _LOG.error("loading failed: %s", error)
        else:
            self._service = service
