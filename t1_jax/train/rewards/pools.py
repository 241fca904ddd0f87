"""Which documents a reward ranks, and how old their embeddings are.

A pool holds a query's positives, hard negatives and random documents: among hard negatives alone,
or random documents alone, ranks hardly tell thoughts apart. A store holds the embeddings of a
corpus, from one encoder at one step, until it is refreshed.
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
    """The candidates that documents are ranked among.

    Attributes:
        kind: "batch": the documents of the step, encoded by the model as it is (LREM,
            arXiv:2510.14321). "pool": for each query its positives, hard negatives and random
            documents, encoded again every `refresh_steps` steps. "corpus": all documents, encoded
            as often. "frozen": all documents, encoded once before the first step (as in Embed-RL
            and TongSearch-QR).
        num_hard: hard negatives in a pool; 50 hard and 50 random as in ELVA (arXiv:2606.20280).
        num_random: random documents in a pool.
        refresh_steps: K, most age of document embeddings in steps.
        similarity_cap: a document whose cosine with the query is above this is not a hard negative:
            it may be an unlabeled positive. None trusts the qrels.
        index: back end that searches a corpus: "jax" and "numpy" are exact; "scann" is for corpora
            too large for that. A resumed run builds its ScaNN index again and may then find other
            hard negatives than an uninterrupted one.
        scann: settings of ScaNN, and the recall below which it ends the run.

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
                "num_hard and num_random are both 0, so that a pool would hold positives alone"
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

    A pool depends on the seed, the query and the index alone, not on the other queries. It never
    holds excluded documents; a small corpus gives a small pool. Query vectors and index are from
    the same model.

    Raises:
        DataError: a positive or excluded document that the index does not have, or vectors that it
            rejects.
    """
    positives = [index.table.rows_of(record.positives) for record in records]
    not_negative = [
        {*rows, *index.table.rows_of(record.excluded)}
        for rows, record in zip(positives, records, strict=True)
    ]
    hard = _hard_rows(index, query_vectors, not_negative, config)
    pools = []
    for record, positive_rows, taken, hard_rows in zip(
        records, positives, not_negative, hard, strict=True
    ):
        rng = _query_rng(seed, record.query_id)
        random_rows = _random_rows(rng, len(index.ids), taken | set(hard_rows), config.num_random)
        pools.append(tuple(index.ids[row] for row in (*positive_rows, *hard_rows, *random_rows)))
    return tuple(pools)


def outcome_from_pools(
    records: Sequence[TrainingRecord],
    vectors: Float[np.ndarray, "P G D"],
    pools: Sequence[Sequence[str]],
    documents: EmbeddingTable,
) -> RetrievalOutcome:
    """The outcome of each thought in its own query's pool, from `build_pools`.

    The embeddings of the thoughts are normalized here.

    Raises:
        DataError: a pool has a document without an embedding, or no positive; or vectors that are
            zero or not finite.
    """
    rows, allowed = _padded_rows([documents.rows_of(pool) for pool in pools])
    grades = np.zeros_like(rows)
    for query, (record, pool) in enumerate(zip(records, pools, strict=True)):
        grades[query, : len(pool)] = [record.positives.get(name, 0) for name in pool]
    names = [f"thought {number}" for number in range(vectors.shape[0] * vectors.shape[1])]
    units = unit_vectors(vectors.reshape(-1, vectors.shape[2]), names).reshape(vectors.shape)
    scores = np.stack(
        [thoughts @ documents.vectors[row].T for thoughts, row in zip(units, rows, strict=True)]
    )
    return outcome_from_scores(scores, grades, allowed)


class DocumentStore:
    """A corpus whose embeddings are replaced, all at once, every few steps.

    Args:
        ids: document ids, in the order of the embeddings.
        refresh_steps: K, age in steps at which embeddings are due again; None keeps the first ones.
    """

    def __init__(self, ids: Sequence[str], *, refresh_steps: int | None) -> None:
        self.ids = tuple(ids)
        self.refresh_steps = refresh_steps
        self._encoded: tuple[EmbeddingTable, int] | None = None

    @property
    def table(self) -> EmbeddingTable:
        """The newest ids and unit vectors; a DataError if the store is empty."""
        return self._newest()[0]

    def age(self, step: int) -> int:
        """Age of the embeddings in steps; a DataError if the store is empty."""
        return step - self._newest()[1]

    def due(self, step: int) -> bool:
        """Whether the embeddings must be computed before `step`: none yet, or K steps old."""
        if self._encoded is None:
            return True
        return self.refresh_steps is not None and self.age(step) >= self.refresh_steps

    def refresh(self, vectors: Float[np.ndarray, "C D"], step: int) -> None:
        """Replaces all embeddings by those of `step`; an earlier `table` stays as it is.

        Raises:
            DataError: not one vector per id, or one that is zero or not finite.
        """
        self._encoded = (EmbeddingTable.from_vectors(self.ids, vectors), step)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Arrays from which `load_state_dict` restores the store bit for bit.

        An empty store has vectors of shape [0, 0] and `encoded_at` −1.
        """
        vectors, encoded_at = np.zeros((0, 0), np.float32), -1
        if self._encoded is not None:
            vectors, encoded_at = self._encoded[0].vectors, self._encoded[1]
        return {
            "vectors": vectors,
            "encoded_at": np.array(encoded_at, np.int64),
            "corpus": _digest(self.ids),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from `state_dict()`.

        Raises:
            DataError: the state belongs to a corpus with other ids or another order.
        """
        if not np.array_equal(state["corpus"], _digest(self.ids)):
            raise DataError(
                f"the saved embeddings are of another corpus than these {len(self.ids)} documents",
                hint="resume with the data the run was started with",
            )
        if len(state["vectors"]):
            self.refresh(np.asarray(state["vectors"]), int(state["encoded_at"]))
        else:
            self._encoded = None

    def _newest(self) -> tuple[EmbeddingTable, int]:
        if self._encoded is None:
            raise DataError("the document store is empty: call refresh first")
        return self._encoded


def _hard_rows(
    index: Index,
    queries: Float[np.ndarray, "Q D"],
    not_negative: Sequence[set[int]],
    config: PoolConfig,
) -> list[list[int]]:
    """The best rows below the cap, best first; it searches deeper until there are enough."""
    if config.num_hard == 0:
        return [[] for _ in not_negative]
    cap = np.inf if config.similarity_cap is None else config.similarity_cap
    depth = config.num_hard
    while True:
        results = index.search(queries, depth, not_negative)
        fits = (results.rows >= 0) & (results.scores <= cap)
        if depth >= len(index.ids) or fits.sum(axis=1).min(initial=depth) >= config.num_hard:
            break
        depth = min(2 * depth, len(index.ids))
    found = zip(results.rows, fits, strict=True)
    return [rows[good][: config.num_hard].tolist() for rows, good in found]


def _random_rows(
    rng: np.random.Generator, documents: int, taken: set[int], count: int
) -> list[int]:
    """Up to `count` rows that are not taken."""
    drawn = rng.choice(documents, min(count + len(taken), documents), replace=False)
    return [row for row in drawn.tolist() if row not in taken][:count]


def _padded_rows(
    lists: Sequence[Sequence[int]],
) -> tuple[Int[np.ndarray, "P C"], Bool[np.ndarray, "P C"]]:
    """Row numbers as a padded table, and a mask of those that are not padding."""
    most = max(len(rows) for rows in lists)
    used = np.arange(most) < np.array([len(rows) for rows in lists])[:, None]
    table = np.zeros((len(lists), most), np.int64)
    table[used] = [row for rows in lists for row in rows]
    return table, used


def _query_rng(seed: int, query_id: str) -> np.random.Generator:
    """Random numbers that depend on the seed and the query alone."""
    digest = hashlib.sha256(f"{seed}\n{query_id}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _digest(ids: Sequence[str]) -> np.ndarray:
    """SHA-256 of the ids in their order, as 32 bytes; no id holds a control character."""
    return np.frombuffer(hashlib.sha256("\n".join(ids).encode()).digest(), np.uint8).copy()
