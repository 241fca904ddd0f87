"""Small training sets for the tests of this room."""

from collections.abc import Mapping

from t1_jax.retrieval import Collection, Document, Query
from t1_jax.train.data import TrainingRecord, TrainingSet


def documents(count: int) -> dict[str, Document]:
    return {f"d{i}": Document(id=f"d{i}", text=f"document number {i}") for i in range(count)}


def training_set(name: str, records: int, *, negatives: int = 4) -> TrainingSet:
    """Records q0, q1, ... with two positives (grades 1 and 2), two thoughts and `negatives`."""
    corpus = documents(records + negatives + 2)
    items = tuple(
        TrainingRecord(
            query_id=f"q{i}",
            query=f"{name} asks number {i}",
            positives={f"d{i}": 2, f"d{i + 1}": 1},
            negatives=tuple(f"d{i + 2 + k}" for k in range(negatives)),
            thoughts=(f"thought a of {i}", f"thought b of {i}"),
        )
        for i in range(records)
    )
    return TrainingSet(name=name, records=items, documents=corpus)


def held_out(queries: Mapping[str, str], name: str = "exam") -> Collection:
    return Collection(
        name=name,
        documents=(Document(id="d0", text="document number 0"),),
        queries=tuple(Query(id=key, text=text) for key, text in queries.items()),
        qrels={key: {"d0": 1} for key in queries},
    )


def trained_on(*queries: str, name: str = "set") -> TrainingSet:
    """A set with these query texts, named q0, q1, ..."""
    return TrainingSet(
        name=name,
        records=tuple(
            TrainingRecord(query_id=f"q{i}", query=text, positives={"d0": 1})
            for i, text in enumerate(queries)
        ),
        documents=documents(1),
    )
