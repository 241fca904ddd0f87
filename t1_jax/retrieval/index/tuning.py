"""Chooses search settings of an approximate index by measuring recall and speed on queries."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from t1_jax.errors import IndexContractError
from t1_jax.retrieval.index.recall import RecallSample

if TYPE_CHECKING:
    from t1_jax.retrieval.index.approximate import ApproximateIndex

Settings = TypeVar("Settings")

_ROUNDS = 3
"""The fastest of so many searches counts."""


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[Settings]):
    """Settings with what was measured.

    Attributes:
        settings: of the back end.
        recall_at_10: see `RecallSample.recall_at_10`.
        queries_per_second: of `Index.search` with the top 10.
    """

    settings: Settings
    recall_at_10: float
    queries_per_second: float


def choose_settings(
    index: "ApproximateIndex",
    ladders: Sequence[Sequence[Settings]],
    sample: RecallSample,
    minimum_recall: float,
) -> Trial[Settings]:
    """The fastest settings that reach a recall, or else those with the highest recall.

    Args:
        index: its `settings` are changed while it is measured, and are the chosen ones afterwards.
        ladders: settings whose recall and cost grow along each ladder. The first that reaches the
            recall is found by bisection.
        sample: queries with their exact results.
        minimum_recall: recall@10, from 0 to 1.
    """
    trials = [
        trial for ladder in ladders for trial in _climb(index, ladder, sample, minimum_recall)
    ]
    chosen = best_trial(trials, minimum_recall)
    index.settings = chosen.settings
    return chosen


def best_trial(trials: Sequence[Trial[Settings]], minimum_recall: float) -> Trial[Settings]:
    """The fastest of those that reach a recall, or else the one with the highest recall."""
    reaching = [trial for trial in trials if trial.recall_at_10 >= minimum_recall]
    if reaching:
        return max(reaching, key=lambda trial: trial.queries_per_second)
    return max(trials, key=lambda trial: trial.recall_at_10)


def check_recall(name: str, trial: Trial, minimum_recall: float) -> None:
    """Raises IndexContractError if the recall of `name` is below its minimum."""
    if trial.recall_at_10 < minimum_recall:
        raise IndexContractError(
            f"{name} reaches a recall@10 of {trial.recall_at_10:.3f} against exact search, below "
            f"the minimum of {minimum_recall}",
            hint="leave out the settings of searches, so that they are measured; lower "
            "minimum_recall (--recall); or use the exact kind 'jax'",
        )


def counts_up_to(most: int, *, start: int = 1) -> list[int]:
    """Numbers from `start` to `most` in steps of about a half: 1, 2, 3, 5, 8, 12, 18, ..."""
    counts, count = [], min(start, most)
    while count < most:
        counts.append(count)
        count += max(1, count // 2)
    return [*counts, most]


def _climb(
    index: "ApproximateIndex",
    ladder: Sequence[Settings],
    sample: RecallSample,
    minimum_recall: float,
) -> Iterator[Trial[Settings]]:
    """Trials of a ladder, up to the first that reaches the recall.

    The steps up are doubled, as the upper end may cost more than exact search.
    """
    low, step, last = 0, 0, len(ladder) - 1
    while True:
        yield (trial := _measured(index, ladder[step], sample, minimum_recall))
        if trial.recall_at_10 >= minimum_recall:
            break
        if step == last:
            return
        low, step = step + 1, min(2 * step + 1, last)
    high = step
    while low < high:
        middle = (low + high) // 2
        yield (trial := _measured(index, ladder[middle], sample, minimum_recall))
        if trial.recall_at_10 >= minimum_recall:
            high = middle
        else:
            low = middle + 1


def _measured(
    index: "ApproximateIndex", settings: Settings, sample: RecallSample, minimum_recall: float
) -> Trial[Settings]:
    """Recall of settings, and their speed if the recall is reached."""
    index.settings = settings
    recall = sample.recall_at_10(index)
    rounds = _ROUNDS if recall >= minimum_recall else 1
    return Trial(
        settings=settings,
        recall_at_10=recall,
        queries_per_second=sample.queries_per_second(index, rounds),
    )
