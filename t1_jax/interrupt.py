"""How long work learns that it must end early: one object, shared by sampler, encoder, trainer."""

from collections.abc import Callable


class Interrupted(Exception):  # noqa: N818 - a request to stop, not an error
    """Raised inside long work that was asked to end early; what it had begun is dropped."""


class Interrupt:
    """Asks long work to end early, at the next point where it can.

    Attributes:
        requested: returns whether the work should end now. The default never asks.
    """

    def __init__(self, requested: Callable[[], bool] = lambda: False) -> None:
        self.requested = requested

    def check(self) -> None:
        """Called between two blocks of work.

        Raises:
            Interrupted: the work should end now.
        """
        if self.requested():
            raise Interrupted
