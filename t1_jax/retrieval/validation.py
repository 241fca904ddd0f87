"""Problems in the files of a collection: counted while reading, then raised or accepted."""

import copy
from collections import Counter

from t1_jax.errors import DataError
from t1_jax.progress import counted
from t1_jax.retrieval.collection import SourceLocation

MALFORMED = "malformed records"
EMPTY_DOCUMENT = "documents without title and text"
EMPTY_QUERY = "queries without text"
UNKNOWN_DOCUMENT = "qrels for documents that the corpus lacks"
UNKNOWN_QUERY = "qrels for queries that do not exist"
EXCLUDED_UNKNOWN_DOCUMENT = "excluded documents that the corpus lacks"
EXCLUSION_FOR_UNKNOWN_QUERY = "exclusions for queries that do not exist"

DUPLICATE_DOCUMENT = "duplicate lines in the corpus (ignored)"
DUPLICATE_QUERY = "duplicate lines in the queries (ignored)"
DUPLICATE_QREL = "duplicate lines in the qrels (ignored)"
EXCLUDED_ABSENT_DOCUMENT = "excluded ids that the corpus lacks (ignored)"

_LENIENT_ACTION = {
    MALFORMED: "dropped",
    EMPTY_DOCUMENT: "dropped",
    EMPTY_QUERY: "dropped",
    UNKNOWN_DOCUMENT: "kept for scores, as in trec_eval",
    UNKNOWN_QUERY: "dropped",
    EXCLUDED_UNKNOWN_DOCUMENT: "dropped",
    EXCLUSION_FOR_UNKNOWN_QUERY: "dropped",
}
"""What lenient reading does with each kind of problem."""


DROPPED_DOCUMENTS = f"{EMPTY_DOCUMENT} ({_LENIENT_ACTION[EMPTY_DOCUMENT]})"
"""Key in `Collection.notes`: number of documents in the files that the collection lacks."""


DROPPED_RECORDS = f"{MALFORMED} ({_LENIENT_ACTION[MALFORMED]})"
"""Key in `Collection.notes`: number of malformed records in all files."""


class ValidationReport:
    """Counts problems by kind while files are read; `raise_unless` reports them all at the end."""

    def __init__(self) -> None:
        self._ignored = Counter[str]()
        self._problems = Counter[str]()
        self._first: dict[str, str] = {}
        self._malformed: set[SourceLocation] = set()

    def ignore(self, kind: str, count: int = 1) -> None:
        """Counts problems that change no score."""
        if count:
            self._ignored[kind] += count

    def add(self, kind: str, location: SourceLocation, message: str) -> None:
        """Counts a problem that only lenient reading accepts."""
        self._problems[kind] += 1
        self._first.setdefault(kind, f"{location.path}:{location.line}: {message}")

    def copy(self) -> "ValidationReport":
        """A report that starts with the problems of this one."""
        return copy.deepcopy(self)

    def add_malformed(self, location: SourceLocation, message: str) -> None:
        """Counts a record that cannot be parsed; only once if its file is read twice."""
        if location not in self._malformed:
            self._malformed.add(location)
            self.add(MALFORMED, location, message)

    def raise_unless(self, lenient: bool) -> None:
        """Raises if there are problems and reading is not lenient.

        Raises:
            DataError: names the file and line of the first problem of each kind, and counts all.
        """
        if lenient or not self._problems:
            return
        raise DataError(
            "\n".join(
                f"{self._first[kind]} ({counted(count, kind)})"
                for kind, count in self._problems.items()
            ),
            hint="correct the files, or accept this with --lenient (in Python lenient=True, in a "
            "training config data.sources.NAME.lenient=true)",
        )

    def notes(self) -> dict[str, int]:
        """Problem and what was done about it -> count."""
        problems = {f"{kind} ({_LENIENT_ACTION[kind]})": n for kind, n in self._problems.items()}
        return problems | self._ignored
