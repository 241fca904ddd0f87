"""`t1 collection check` and `t1 collection split`: validates a collection, splits its queries."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli.options import AsJson, Lenient, Overwrite, config_argument
from t1_jax.cli.output import Output
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.retrieval import Collection

Name = Annotated[
    str, typer.Argument(metavar="COLLECTION", help="A folder, or a name that `t1 pull` knows.")
]
_METRICS = ("nDCG@10", "recall@10")


def check_collection(name: Name, as_json: AsJson = False) -> None:
    """Count documents, queries and qrels, and report flaws that affect scores.

    Reads every split as --lenient does. Looks for queries that are documents, duplicate texts, ids
    that TREC files cannot distinguish, and queries shared by splits. BM25's scores show whether
    texts and qrels match.

    Example: t1 collection check my-collection
    """
    from t1_jax.hub import collection_splits, open_collection

    out = Output(as_json)
    splits = {
        split: open_collection(name, split, lenient=True) for split in collection_splits(name)
    }
    first = next(iter(splits.values()))
    flaws = [*_document_problems(first)]
    for split, collection in splits.items():
        flaws += [(f"{flaw} in {split}", count) for flaw, count in _query_problems(collection)]
    flaws += _shared_queries(splits)
    findings = {flaw: count for flaw, count in flaws if count}
    facts = {split: _split_facts(collection) for split, collection in splits.items()}
    out.print(f"{first.name}: {counted(len(first.documents), 'documents')}")
    out.table(
        ("split", "queries>", "qrels>", *(f"BM25 {metric}>" for metric in _METRICS),
         "BM25 no result>"),
        [
            (
                split,
                f"{row['queries']:,}",
                f"{row['qrels']:,}",
                *(f"{row['bm25'][metric]:.3f}" if row["bm25"] else "-" for metric in _METRICS),
                f"{row['bm25_without_result']:,}",
            )
            for split, row in facts.items()
        ],
    )  # fmt: skip
    for flaw, count in findings.items():
        out.warn(counted(count, flaw))
    if not findings:
        out.print("no flaws found")
    count = len(first.documents)
    out.result(collection=first.name, documents=count, splits=facts, findings=findings)


def split_collection(
    name: Name,
    arguments: Annotated[
        list[str] | None,
        config_argument("A YAML file, and fields to override, as in validation=0.1 test=0.2."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "splits"
    ),
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Split a collection's queries with qrels into training, validation and test sets.

    Queries of equal or nearly equal text stay together, so that no test query is trained on. The
    splits that the collection already has are merged first.

    Example: t1 collection split my-collection test=0.3 --output my-splits
    """
    from t1_jax.cli.inputs import open_split, read_config
    from t1_jax.files import check_new_folder
    from t1_jax.hub import collection_splits
    from t1_jax.retrieval import save_collection
    from t1_jax.train.data import SplitConfig, split_queries

    out = Output(as_json)
    config = read_config(SplitConfig, arguments)
    check_new_folder(output, overwrite=overwrite)
    parts = [open_split(name, split, out, lenient=lenient) for split in collection_splits(name)]
    splits = split_queries(_merge_splits(parts), config)
    save_collection(splits, output, overwrite=overwrite)
    counts = {split: len(part.queries) for split, part in splits.items()}
    per_split = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    documents = counted(len(parts[0].documents), "documents")
    out.print(f"{output}: {documents}, queries: {per_split}")
    out.result(output=output, queries=counts)


def _merge_splits(parts: "list[Collection]") -> "Collection":
    """One collection with the queries and qrels of several splits."""
    from dataclasses import replace

    qrels: dict[str, dict[str, int]] = {}
    absent: dict[str, dict[str, int]] = {}
    for part in parts:
        for merged, more in ((qrels, part.qrels), (absent, part.absent_qrels)):
            for query_id, grades in more.items():
                merged.setdefault(query_id, {}).update(grades)
    return replace(
        parts[0],
        queries=tuple({query.id: query for part in parts for query in part.queries}.values()),
        qrels=qrels,
        absent_qrels=absent,
        excluded={key: ids for part in parts for key, ids in part.excluded.items()},
    )


def _split_facts(collection: "Collection") -> dict[str, Any]:
    """Counts of a split, and BM25's mean scores; no scores without a relevant document."""
    from t1_jax.retrieval import BM25, score_run

    run = BM25.build(collection).search(collection.queries, 100, collection.excluded)
    facts: dict[str, Any] = {
        "queries": len(collection.queries),
        "qrels": sum(map(len, collection.all_qrels.values())),
        "bm25_without_result": sum(not results for results in run.values()),
        "bm25": {},
    }
    relevant = {
        key: grades for key, grades in collection.all_qrels.items() if max(grades.values()) > 0
    }
    if relevant:
        scores = score_run(run, relevant, metrics=_METRICS, excluded=collection.excluded, depth=100)
        facts["bm25"] = {metric: scores.mean(metric) for metric in _METRICS}
    return facts


def _document_problems(collection: "Collection") -> Iterator[tuple[str, int]]:
    """Problems of the corpus as plural phrases, with counts that may be 0."""
    from t1_jax.train.data import text_hash

    texts = Counter(text_hash(document.full_text) for document in collection.documents)
    yield "documents with the text of an earlier one", sum(texts.values()) - len(texts)
    yield (
        "document ids that clash in TREC files, where spaces become _",
        _id_clashes(document.id for document in collection.documents),
    )


def _query_problems(collection: "Collection") -> Iterator[tuple[str, int]]:
    """Problems of a split as plural phrases, with counts that may be 0."""
    from t1_jax.retrieval import find_self_documents
    from t1_jax.train.data import text_hash

    yield from collection.notes.items()
    queries = collection.queries
    selves = find_self_documents(
        ((query.id, query.text) for query in queries), collection.documents_by_id
    )
    pairs = list(zip(queries, selves, strict=True))
    yield (
        "queries with the id of a document (see exclude_same_id of `t1 evaluate`)",
        sum(query.id in documents for query, documents in pairs),
    )
    yield (
        "queries with the text of a document of another id",
        sum(bool(documents - {query.id}) for query, documents in pairs),
    )
    texts = Counter(text_hash(query.text) for query in queries)
    yield "queries with the text of an earlier one", sum(texts.values()) - len(texts)
    yield (
        "queries without relevant document, which cannot be scored",
        sum(
            max(collection.all_qrels.get(query.id, {}).values(), default=0) < 1 for query in queries
        ),
    )
    yield (
        "query ids that clash in TREC files, where spaces become _",
        _id_clashes(query.id for query in queries),
    )


def _shared_queries(splits: "Mapping[str, Collection]") -> Iterator[tuple[str, int]]:
    from t1_jax.train.data import LeakConfig, overlap

    for name, other in combinations(splits, 2):
        leaks = overlap(splits[name], splits[other], LeakConfig())
        exact = sum(leak.exact for leak in leaks)
        yield f"queries of {name} with the text of one of {other}", exact
        yield f"queries of {name} that nearly duplicate one of {other}", len(leaks) - exact


def _id_clashes(ids: Iterator[str]) -> int:
    written = Counter("_".join(identifier.split()) for identifier in ids)
    return sum(written.values()) - len(written)
