"""The rollout of the next step, drawn while this one is learnt from."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from flax import nnx

from t1_jax.interrupt import Interrupt, Interrupted
from t1_jax.parallel import MeshContext
from t1_jax.train.clock import Clock
from t1_jax.train.rollout import Rollout


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A rollout and what is told of it.

    Attributes:
        rollout: to learn from.
        metrics: of its thoughts and rewards.
        clock: what drawing it took.
    """

    rollout: Rollout
    metrics: dict[str, float]
    clock: Clock


DrawRollout = Callable[[nnx.State, int, Interrupt | None], Drawn]


class RolloutPrefetch:
    """One rollout in advance, from a thread of its own.

    Its thoughts come from the weights before the update that it runs beside, so they are one update
    older than the weights they teach; the truncated importance sampling of the policy loss makes up
    for it. A rollout depends on weights and step alone: a run that is resumed draws it again, and
    its checkpoints need not hold it.

    Args:
        draw: gives the rollout of a step by these weights; its third argument ends it early.
        mesh_context: that threads have to enter.
    """

    def __init__(self, draw: DrawRollout, mesh_context: MeshContext) -> None:
        self._draw = draw
        self._placement = mesh_context
        self._ready: Drawn | None = None
        self._failure: Exception | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the rollout of the next step is there."""
        return self._ready is not None

    def take(self, weights: nnx.State, step: int, check: Interrupt | None) -> Drawn:
        """The rollout of this step; drawn now, if it was not in advance.

        What went wrong with it in advance is raised here, where the step before is complete.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        found, self._ready = self._ready, None
        return found or self._draw(weights, step, check)

    @contextmanager
    def drawing(self, weights: nnx.State, step: int, check: Interrupt | None) -> Iterator[None]:
        """Draws the rollout of `step` while the body runs; the end waits for both.

        If drawing fails, there is no rollout in the end, and `take` raises the error.

        Args:
            weights: which the body must not consume.
            step: the next one.
            check: ends the rollout early; there is then no rollout in the end.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="rollout") as worker:
            drawn = worker.submit(self._draw_there, weights, step, check)
            yield
        try:
            self._ready = drawn.result()
        except Interrupted:
            pass
        except Exception as error:
            self._failure = error

    def _draw_there(self, weights: nnx.State, step: int, check: Interrupt | None) -> Drawn:
        # A mesh is entered thread by thread.
        with self._placement.activate():
            return self._draw(weights, step, check)
