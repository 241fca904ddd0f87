"""The candidates that thoughts are ranked against: documents of a step, of a pool, or of a corpus.

Documents of equal text have equal embeddings. So a copy of a positive, of an excluded document or
of the query under another id is never a candidate (`TrainingSet.for_ranking`).
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from t1_jax.retrieval import Index, build_index
from t1_jax.retrieval.index import EmbeddingTable, ScannSettings
from t1_jax.train.data import Example, TrainingSet, text_hash
from t1_jax.train.rewards import (
    DocumentStore,
    PoolConfig,
    RetrievalOutcome,
    build_pools,
    joined_outcome,
    outcome_from_index,
    outcome_from_pools,
    outcome_from_scores,
)

Encode = Callable[..., np.ndarray]
"""Encodes documents: `T1.encode_document`."""

_STORED = ("vectors", "encoded_at", "corpus")


class CorpusEmbeddings:
    """Document embeddings of every training set of a stage, at most as old as the config allows.

    Attributes:
        refresh_steps: most age in steps; None keeps the first ones.
    """

    def __init__(
        self,
        sets: Sequence[TrainingSet],
        mesh: jax.sharding.Mesh,
        *,
        refresh_steps: int | None,
        index: str = "jax",
        scann: ScannSettings | None = None,
    ) -> None:
        """An empty store for each set; an index of kind `index` is searched on the mesh."""
        self.refresh_steps = refresh_steps
        self._sets = {training_set.name: training_set for training_set in sets}
        self._mesh = mesh
        self._index_kind, self._scann = index, scann or ScannSettings()
        self._stores = {
            training_set.name: DocumentStore(
                list(training_set.documents), refresh_steps=refresh_steps
            )
            for training_set in sets
        }
        self._indexes: dict[str, Index] = {}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Embeddings and their age."""
        return {
            f"{name}:{key}": array
            for name, store in self._stores.items()
            for key, array in store.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from `state_dict()`.

        Raises:
            DataError: it belongs to another corpus.
        """
        for name, store in self._stores.items():
            store.load_state_dict({key: state[f"{name}:{key}"] for key in _STORED})
        self._indexes = {}

    def refresh(self, encode: Encode, step: int) -> None:
        """Encodes every corpus whose embeddings are too old for this step."""
        for name, store in self._stores.items():
            if store.due(step):
                documents = self._sets[name].documents
                texts = [document.full_text for document in documents.values()]
                store.refresh(encode(texts, document_ids=list(documents)), step)
                self._indexes.pop(name, None)

    def age(self, step: int) -> int:
        """Age of the oldest embeddings in steps."""
        return max(store.age(step) for store in self._stores.values())

    def table(self, name: str) -> EmbeddingTable:
        """The newest embeddings of a set."""
        return self._stores[name].table

    def index(self, name: str) -> Index:
        """The index of a set's newest embeddings; built once after each refresh."""
        if name not in self._indexes:
            table = self.table(name)
            self._indexes[name] = build_index(
                self._index_kind, table.ids, table.vectors, mesh=self._mesh, scann=self._scann
            )
        return self._indexes[name]


class CandidateDocuments:
    """The candidates of rewards.

    Attributes:
        corpora: embeddings of all documents; None if each step encodes its own.
    """

    def __init__(
        self,
        config: PoolConfig,
        sets: Sequence[TrainingSet],
        mesh: jax.sharding.Mesh,
        *,
        seed: int,
    ) -> None:
        """An index is searched on the mesh; `seed` is that of the random documents in pools."""
        self._config = config
        self._sets = {training_set.name: training_set for training_set in sets}
        self._seed = seed
        self.corpora = None
        if config.kind != "batch":
            self.corpora = CorpusEmbeddings(
                sets,
                mesh,
                refresh_steps=None if config.kind == "frozen" else config.refresh_steps,
                index=config.index,
                scann=config.scann,
            )

    def state_dict(self) -> dict[str, np.ndarray]:
        """Embeddings and their age."""
        return {} if self.corpora is None else self.corpora.state_dict()

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from `state_dict()`.

        Raises:
            DataError: it belongs to another corpus.
        """
        if self.corpora is not None:
            self.corpora.load_state_dict(state)

    def refresh(self, encode: Encode, step: int) -> None:
        """Encodes every corpus whose embeddings are too old for this step."""
        if self.corpora is not None:
            self.corpora.refresh(encode, step)

    def metrics(self, step: int) -> dict[str, float]:
        """`index/age`: age of the oldest embeddings in steps; 0 if each step computes its own."""
        return {"index/age": 0.0 if self.corpora is None else float(self.corpora.age(step))}

    def outcome(
        self,
        encode: Encode,
        examples: Sequence[Example],
        vectors: Float[np.ndarray, "P G D"],
        *,
        pools_near: Float[np.ndarray, "P D"] | None = None,
    ) -> RetrievalOutcome:
        """Ranks the candidates of each query for the embedding of each of its thoughts.

        `pools_near` are the query vectors of the search for hard negatives; default the mean of a
        query's thoughts. Outcomes are comparable only among the same candidates.
        """
        near = vectors.mean(axis=1) if pools_near is None else pools_near
        if self._config.kind == "batch":
            return self._among_batch(encode, examples, vectors)
        parts: list[tuple[list[int], RetrievalOutcome]] = []
        for name in self._sets:
            members = [n for n, example in enumerate(examples) if example.set_name == name]
            if members:
                outcome = self._among_set(
                    name, [examples[n] for n in members], vectors[members], near[members]
                )
                parts.append((members, outcome))
        return joined_outcome(parts)

    def _among_batch(
        self,
        encode: Encode,
        examples: Sequence[Example],
        vectors: Float[np.ndarray, "P G D"],
    ) -> RetrievalOutcome:
        """Among the documents of the step, encoded by the model as it is."""
        records = [self._sets[example.set_name].for_ranking(example.record) for example in examples]
        documents = (
            (example.set_name, name)
            for example, record in zip(examples, records, strict=True)
            for name in (*record.positives, *example.negatives)
        )
        keys = list(dict.fromkeys(documents))
        texts = [self._sets[name].text_hash(document) for name, document in keys]
        encoded = encode(
            [self._sets[name].documents[document].full_text for name, document in keys]
        )
        grades = np.zeros((len(examples), len(keys)), np.int64)
        allowed = np.ones((len(examples), len(keys)), bool)
        for number, (example, record) in enumerate(zip(examples, records, strict=True)):
            text_of = self._sets[example.set_name].text_hash
            # By text, since candidates of other sets have other ids.
            hidden = {text_of(name) for name in (*record.positives, *record.excluded)}
            hidden.add(text_hash(record.query))
            for column, (name, document) in enumerate(keys):
                if name == example.set_name:
                    grades[number, column] = record.positives.get(document, 0)
                if not grades[number, column]:
                    allowed[number, column] = texts[column] not in hidden
        return outcome_from_scores(vectors @ encoded.T, grades, allowed)

    def _among_set(
        self,
        name: str,
        examples: Sequence[Example],
        vectors: Float[np.ndarray, "P G D"],
        near: Float[np.ndarray, "P D"],
    ) -> RetrievalOutcome:
        assert self.corpora is not None
        index = self.corpora.index(name)
        records = [self._sets[name].for_ranking(example.record) for example in examples]
        if self._config.kind == "pool":
            pools = build_pools(records, near, index, config=self._config, seed=self._seed)
            return outcome_from_pools(records, vectors, pools, self.corpora.table(name))
        most = max(len(record.positives) for record in records)
        rows = np.full((len(records), most), -1, np.int64)
        grades = np.zeros((len(records), most), np.int64)
        for number, record in enumerate(records):
            rows[number, : len(record.positives)] = index.table.rows_of(record.positives)
            grades[number, : len(record.positives)] = list(record.positives.values())
        excluded = [index.table.rows_of(record.excluded) for record in records]
        return outcome_from_index(index, vectors, rows, grades, excluded)
