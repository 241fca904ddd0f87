"""What published collections hold beyond a consistent one: counted, and rejected or accepted."""

from collections import Counter

from t1_jax.errors import DataError
from t1_jax.progress import counted
from t1_jax.retrieval.jsonl import SourceLocation

EMPTY_DOCUMENT = "documents without title and text"
EMPTY_QUERY = "queries without text"
ABSENT_DOCUMENT = "judgments of documents that the corpus lacks"
ABSENT_QUERY = "judgments of queries that do not exist"
EXCLUDED_ABSENT_DOCUMENT = "excluded documents that the corpus lacks"
EXCLUSION_OF_ABSENT_QUERY = "exclusions for queries that do not exist"

REPEATED_DOCUMENT = "repeated lines in the corpus (ignored)"
REPEATED_QUERY = "repeated lines in the queries (ignored)"
REPEATED_JUDGMENT = "repeated lines in the qrels (ignored)"

_TREATMENT = {
    EMPTY_DOCUMENT: "dropped",
    EMPTY_QUERY: "dropped",
    ABSENT_DOCUMENT: "kept for scores, as in trec_eval",
    ABSENT_QUERY: "dropped",
    EXCLUDED_ABSENT_DOCUMENT: "dropped",
    EXCLUSION_OF_ABSENT_QUERY: "dropped",
}
"""What lenient reading does with each flaw."""


DROPPED_DOCUMENTS = f"{EMPTY_DOCUMENT} ({_TREATMENT[EMPTY_DOCUMENT]})"
"""The note that counts documents which the files have and the collection has not."""


class Flaws:
    """Counts by kind while files are read; faults are raised at the end, with their full count."""

    def __init__(self) -> None:
        self._accepted = Counter[str]()
        self._faults = Counter[str]()
        self._first: dict[str, str] = {}

    def accept(self, kind: str) -> None:
        """Counts something that changes no score."""
        self._accepted[kind] += 1

    def fault(self, kind: str, place: SourceLocation, what: str) -> None:
        """Counts something that only lenient reading accepts."""
        self._faults[kind] += 1
        self._first.setdefault(kind, f"{place.path}:{place.line}: {what}")

    def raise_unless(self, lenient: bool) -> None:
        """Ends reading where there are faults.

        Raises:
            DataError: with the place of the first fault of each kind and the count of all.
        """
        if lenient or not self._faults:
            return
        raise DataError(
            "\n".join(
                f"{self._first[kind]} ({counted(count, kind)})"
                for kind, count in self._faults.items()
            ),
            hint="correct the files, or accept this with --lenient (in Python lenient=True, in a "
            "training config data.sources.NAME.lenient=true)",
        )

    def notes(self) -> dict[str, int]:
        """Count by what was found and what was done with it."""
        faults = {f"{kind} ({_TREATMENT[kind]})": n for kind, n in self._faults.items()}
        return faults | self._accepted
