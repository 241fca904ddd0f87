"""Which documents a reward ranks, and how old their vectors are.

A pool holds a query's positives, documents that look right, and random ones: rank rewards among
documents that are all alike say little, and so do they among documents that are all different.
A store holds the vectors of a corpus as one encoder made them at one step, until it is refreshed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import INDEX_KINDS
from t1_jax.retrieval.index import EmbeddingTable, Index, ScannSettings, unit_vectors
from t1_jax.train.data import TrainingRecord
from t1_jax.train.rewards.outcome import RetrievalOutcome, outcome_from_scores

KINDS = ("batch", "pool", "corpus", "frozen")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """What the thoughts of a query are ranked against.

    Attributes:
        kind: "batch": the documents of the step, encoded by the model as it is (LREM,
            arXiv:2510.14321). "pool": for each query its positives, hard negatives and random
            documents, encoded again every `refresh_steps` steps. "corpus": all documents, encoded
            as often. "frozen": all documents, encoded once, before the first step (as Embed-RL and
            TongSearch-QR do).
        num_hard: hard negatives in a pool; 50 hard and 50 random as in ELVA (arXiv:2606.20280).
        num_random: random documents in a pool.
        refresh_steps: K, the most steps that document vectors may be old.
        similarity_cap: a document whose cosine with the query is above this is no hard negative:
            it may answer the query although nobody judged it. None trusts the judgments.
        index: back end that searches a corpus: "jax" and "numpy" are exact; "scann" is for
            corpora too large for that, and a resumed run, which builds its index anew, may then
            find other hard negatives than the run that was stopped.
        scann: how ScaNN searches, and the recall below which it ends the run.

    Raises:
        ConfigError: an unknown kind, or a value out of range.
    """

    kind: str = "pool"
    num_hard: int = 50
    num_random: int = 50
    refresh_steps: int = 50
    similarity_cap: float | None = None
    index: str = "jax"
    scann: ScannSettings = ScannSettings()

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("index", INDEX_KINDS)):
            value = self.__dict__[name]
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}", hint=suggestion(value, known))
        for name, least in (("num_hard", 0), ("num_random", 0), ("refresh_steps", 1)):
            if self.__dict__[name] < least:
                raise ConfigError(f"{name} must be at least {least}, got {self.__dict__[name]}")
        if self.num_hard + self.num_random < 1:
            raise ConfigError(
                "num_hard and num_random are both 0, so a pool has nothing but positives"
            )
        if self.similarity_cap is not None and not -1 <= self.similarity_cap <= 1:
            raise ConfigError(
                f"similarity_cap is a cosine, between -1 and 1, got {self.similarity_cap}"
            )


def build_pools(
    records: Sequence[TrainingRecord],
    query_vectors: Float[np.ndarray, "Q D"],
    index: Index,
    *,
    config: PoolConfig,
    seed: int,
) -> tuple[tuple[str, ...], ...]:
    """The candidates of each query: its positives, hard negatives best first, random documents.

    A pool depends on the seed, the query and the index alone, not on the other queries. Excluded
    documents are never in it; a small corpus gives a small pool.

    Args:
        records: Q queries.
        query_vectors: of the queries, from the model that mines.
        index: the corpus, from the same model.
        config: sizes, similarity cap.
        seed: of the random documents.

    Raises:
        DataError: a positive or excluded document that the index does not have, or vectors that it
            refuses.
    """
    own = [index.table.rows_of(record.positives) for record in records]
    left_out = [
        {*rows, *index.table.rows_of(record.excluded)}
        for rows, record in zip(own, records, strict=True)
    ]
    hard = _hard_rows(index, query_vectors, left_out, config)
    pools = []
    for record, ours, outside, theirs in zip(records, own, left_out, hard, strict=True):
        stream = _stream(seed, record.query_id)
        others = _random_rows(stream, len(index.ids), outside | set(theirs), config.num_random)
        pools.append(tuple(index.ids[row] for row in (*ours, *theirs, *others)))
    return tuple(pools)


def outcome_from_pools(
    records: Sequence[TrainingRecord],
    vectors: Float[np.ndarray, "P G D"],
    pools: Sequence[Sequence[str]],
    documents: EmbeddingTable,
) -> RetrievalOutcome:
    """The standing of each thought in its own query's pool.

    Args:
        records: P queries.
        vectors: of the thoughts; normalized here.
        pools: document ids of each query, as `build_pools` gives them.
        documents: vectors of one version, with at least the documents of the pools.

    Raises:
        DataError: a pool names a document without a vector, or has no positive; or vectors that
            are zero or not finite.
    """
    rows, allowed = _padded_rows([documents.rows_of(pool) for pool in pools])
    grades = np.zeros_like(rows)
    for prompt, (record, pool) in enumerate(zip(records, pools, strict=True)):
        grades[prompt, : len(pool)] = [record.positives.get(name, 0) for name in pool]
    names = [f"thought {number}" for number in range(vectors.shape[0] * vectors.shape[1])]
    units = unit_vectors(vectors.reshape(-1, vectors.shape[2]), names).reshape(vectors.shape)
    scores = np.stack(
        [thoughts @ documents.vectors[row].T for thoughts, row in zip(units, rows, strict=True)]
    )
    return outcome_from_scores(scores, grades, allowed)


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentVersion:
    """The vectors of a corpus as one encoder made them.

    Attributes:
        table: ids and unit vectors.
        encoded_at: the step after which they were made.
    """

    table: EmbeddingTable
    encoded_at: int


class DocumentStore:
    """A corpus whose vectors are replaced, all at once, every so many steps.

    A reward takes `current` once and compares with that version alone, whatever is refreshed
    meanwhile.
    """

    def __init__(self, ids: Sequence[str], *, refresh_steps: int | None) -> None:
        """An empty store.

        Args:
            ids: of the corpus, in the order in which vectors will come.
            refresh_steps: K, the age in steps at which vectors are due again; None keeps the first
                ones for ever.
        """
        self.ids = tuple(ids)
        self.refresh_steps = refresh_steps
        self._version: DocumentVersion | None = None

    @property
    def current(self) -> DocumentVersion:
        """The newest version.

        Raises:
            DataError: nothing was encoded yet.
        """
        if self._version is None:
            raise DataError("the document store is empty: refresh it before it is used")
        return self._version

    def age(self, step: int) -> int:
        """Steps since the vectors were made, for the log."""
        return step - self.current.encoded_at

    def due(self, step: int) -> bool:
        """Whether vectors must be made before `step`: there are none, or they are K steps old."""
        if self._version is None:
            return True
        return self.refresh_steps is not None and self.age(step) >= self.refresh_steps

    def refresh(self, vectors: Float[np.ndarray, "C D"], step: int) -> DocumentVersion:
        """Replaces all vectors by those made at `step`; versions taken before stay as they are.

        Raises:
            DataError: not one vector for each id, or one that is zero or not finite.
        """
        table = EmbeddingTable.from_vectors(self.ids, vectors)
        self._version = DocumentVersion(table=table, encoded_at=step)
        return self._version

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds: arrays from which `load_state` restores the store bit for bit.

        A store that is still empty has no vectors, [0, 0], and `encoded_at` −1.
        """
        version = self._version
        return {
            "vectors": np.zeros((0, 0), np.float32) if version is None else version.table.vectors,
            "encoded_at": np.array(-1 if version is None else version.encoded_at, np.int64),
            "corpus": _digest(self.ids),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` gave.

        Raises:
            DataError: the state belongs to a corpus with other ids or another order.
        """
        if not np.array_equal(state["corpus"], _digest(self.ids)):
            raise DataError(
                f"the saved document vectors belong to another corpus than these {len(self.ids)} "
                "documents",
                hint="resume with the data the run was started with",
            )
        if len(state["vectors"]):
            self.refresh(np.asarray(state["vectors"]), int(state["encoded_at"]))
        else:
            self._version = None


def _hard_rows(
    index: Index,
    queries: Float[np.ndarray, "Q D"],
    left_out: Sequence[set[int]],
    config: PoolConfig,
) -> list[list[int]]:
    """The best rows below the cap, best first; the search goes deeper until it has enough."""
    if config.num_hard == 0:
        return [[] for _ in left_out]
    cap = np.inf if config.similarity_cap is None else config.similarity_cap
    depth = config.num_hard
    while True:
        found = index.search(queries, depth, left_out)
        fits = (found.rows >= 0) & (found.scores <= cap)
        if depth >= len(index.ids) or fits.sum(axis=1).min(initial=depth) >= config.num_hard:
            break
        depth = min(2 * depth, len(index.ids))
    return [
        rows[good][: config.num_hard].tolist() for rows, good in zip(found.rows, fits, strict=True)
    ]


def _random_rows(
    stream: np.random.Generator, documents: int, taken: set[int], count: int
) -> list[int]:
    """Up to `count` rows, none of them taken: those left of a draw that is large enough."""
    drawn = stream.choice(documents, min(count + len(taken), documents), replace=False)
    return [row for row in drawn.tolist() if row not in taken][:count]


def _padded_rows(
    lists: Sequence[Sequence[int]],
) -> tuple[Int[np.ndarray, "P C"], Bool[np.ndarray, "P C"]]:
    """Row numbers as a table, and which of its places are used."""
    most = max(len(rows) for rows in lists)
    used = np.arange(most) < np.array([len(rows) for rows in lists])[:, None]
    table = np.zeros((len(lists), most), np.int64)
    table[used] = [row for rows in lists for row in rows]
    return table, used


def _stream(seed: int, query_id: str) -> np.random.Generator:
    """Random numbers that belong to a query, whatever else is drawn."""
    digest = hashlib.sha256(f"{seed}\n{query_id}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _digest(ids: Sequence[str]) -> np.ndarray:
    """SHA-256 of the ids in their order, as 32 bytes; no id holds a control character."""
    return np.frombuffer(hashlib.sha256("\n".join(ids).encode()).digest(), np.uint8).copy()
