"""`t1 collection check` and `t1 collection split`: what a collection holds, how to divide it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli.options import AsJson, Lenient, Overwrite
from t1_jax.cli.output import Output

if TYPE_CHECKING:
    from t1_jax.retrieval import Collection

Name = Annotated[
    str, typer.Argument(metavar="COLLECTION", help="A folder, or a name that `t1 pull` knows.")
]


def check_collection(name: Name, as_json: AsJson = False) -> None:
    """Count what a collection holds, what would be dropped, and what scores would suffer from.

    Reads every split as --lenient does. Looks for queries that are documents of their own, equal
    texts, ids that TREC files cannot tell apart, and queries that two splits share; BM25's score
    shows whether texts and qrels fit each other.

    Example: t1 collection check my-collection
    """
    from t1_jax.hub import collection_splits, open_collection

    out = Output(as_json)
    splits = {
        split: open_collection(name, split, lenient=True) for split in collection_splits(name)
    }
    first = next(iter(splits.values()))
    findings = [*_findings_of_documents(first)]
    for split, collection in splits.items():
        findings += [(f"{split}: {what}", count) for what, count in _findings(collection)]
    findings += _overlaps(splits)
    measured = {split: _split_facts(collection) for split, collection in splits.items()}
    out.say(f"{first.name}: {len(first.documents):,} documents")
    out.table(
        ("split", "queries>", "judgments>", "BM25 nDCG@10>", "BM25 recall@10>", "BM25 no result>"),
        [
            (
                split,
                f"{facts['queries']:,}",
                f"{facts['judgments']:,}",
                *(_figure(facts["bm25"], measure) for measure in _MEASURES),
                f"{facts['bm25_without_result']:,}",
            )
            for split, facts in measured.items()
        ],
    )
    found = {what: count for what, count in findings if count}
    for what, count in found.items():
        out.say(f"{count:,} {what}", style="yellow")
    if not found:
        out.say("nothing else to report")
    out.result(
        {
            "collection": first.name,
            "documents": len(first.documents),
            "splits": measured,
            "findings": found,
        }
    )


def split_collection(
    name: Name,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Shares, for example validation=0.1 test=0.2"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "splits"
    ),
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Divide a collection's judged queries into training, validation and test splits.

    Queries whose texts are equal or nearly equal stay together, so that nothing that is tested is
    trained on. All splits that the collection has are put together first.

    Example: t1 collection split my-collection test=0.3 --output my-splits
    """
    from t1_jax.cli.inputs import open_split
    from t1_jax.config import load_config
    from t1_jax.files import check_new_folder
    from t1_jax.hub import collection_splits
    from t1_jax.retrieval import save_collection
    from t1_jax.train.data import SplitConfig, split_queries

    out = Output(as_json)
    config = load_config(SplitConfig, None, settings or ())
    check_new_folder(output, overwrite=overwrite)
    parts = [open_split(name, split, out, lenient=lenient) for split in collection_splits(name)]
    splits = split_queries(_joined(parts), config)
    save_collection(splits, output, overwrite=overwrite)
    counts = {split: len(part.queries) for split, part in splits.items()}
    listed = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    out.say(f"{output}: {len(parts[0].documents):,} documents, queries: {listed}")
    out.result({"output": output, "queries": counts})


_MEASURES = ("nDCG@10", "recall@10")


def _joined(parts: "list[Collection]") -> "Collection":
    """One collection with the queries and judgments of several splits."""
    from dataclasses import replace

    qrels: dict[str, dict[str, int]] = {}
    absent: dict[str, dict[str, int]] = {}
    for part in parts:
        for table, more in ((qrels, part.qrels), (absent, part.absent_qrels)):
            for query_id, grades in more.items():
                table.setdefault(query_id, {}).update(grades)
    return replace(
        parts[0],
        queries=tuple({query.id: query for part in parts for query in part.queries}.values()),
        qrels=qrels,
        absent_qrels=absent,
        excluded={key: ids for part in parts for key, ids in part.excluded.items()},
    )


def _split_facts(collection: "Collection") -> dict[str, Any]:
    """Counts of a split, and BM25's means on it."""
    from t1_jax.retrieval import BM25, score_run

    run = BM25.build(collection).search(collection.queries, 100, collection.excluded)
    facts: dict[str, Any] = {
        "queries": len(collection.queries),
        "judgments": sum(map(len, collection.all_qrels.values())),
        "bm25_without_result": sum(not found for found in run.values()),
        "bm25": {},
    }
    relevant = {
        key: grades for key, grades in collection.all_qrels.items() if max(grades.values()) > 0
    }
    if relevant:
        scores = score_run(
            run, relevant, metrics=_MEASURES, excluded=collection.excluded, depth=100
        )
        facts["bm25"] = {name: scores.mean(name) for name in _MEASURES}
    return facts


def _figure(scores: Mapping[str, float], measure: str) -> str:
    return f"{scores[measure]:.3f}" if measure in scores else "-"


def _findings_of_documents(collection: "Collection") -> Iterator[tuple[str, int]]:
    from t1_jax.train.data import text_hash

    texts = Counter(text_hash(document.full_text) for document in collection.documents)
    yield "documents repeat the text of another one", sum(texts.values()) - len(texts)
    yield (
        "ids of documents that are equal once spaces are replaced, as TREC files need it",
        _collisions(document.id for document in collection.documents),
    )


def _findings(collection: "Collection") -> Iterator[tuple[str, int]]:
    """What may be wrong with a split, with a count that may be 0."""
    from t1_jax.train.data import text_hash

    yield from collection.notes.items()
    documents = collection.documents_by_id
    bodies = {
        text_hash(text)
        for document in collection.documents
        for text in (document.text, document.full_text)
    }
    queries = collection.queries
    yield (
        "queries have the id of a document (see exclude_same_id of `t1 evaluate`)",
        sum(query.id in documents for query in queries),
    )
    yield (
        "queries have the text of a document",
        sum(text_hash(query.text) in bodies for query in queries),
    )
    texts = Counter(text_hash(query.text) for query in queries)
    yield "queries repeat the text of another one", sum(texts.values()) - len(texts)
    yield (
        "queries have no relevant document, so they cannot be scored",
        sum(
            max(collection.all_qrels.get(query.id, {}).values(), default=0) < 1 for query in queries
        ),
    )
    yield (
        "ids of queries that are equal once spaces are replaced, as TREC files need it",
        _collisions(query.id for query in queries),
    )


def _overlaps(splits: "Mapping[str, Collection]") -> Iterator[tuple[str, int]]:
    from t1_jax.train.data import LeakConfig, overlap

    names = list(splits)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            leaks = overlap(splits[name], splits[other], LeakConfig())
            exact = sum(leak.exact for leak in leaks)
            yield f"queries of {name} have the text of one of {other}", exact
            yield f"queries of {name} are nearly one of {other}", len(leaks) - exact


def _collisions(ids: Iterator[str]) -> int:
    written = Counter("_".join(identifier.split()) for identifier in ids)
    return sum(written.values()) - len(written)
