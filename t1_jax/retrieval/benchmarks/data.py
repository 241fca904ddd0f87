"""The data of a benchmark on this machine: tasks as collections, with their files and revision."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.files import read_text, sha256_of, write_atomically
from t1_jax.retrieval.benchmarks.beir_parquet import (
    read_parquet_documents,
    read_parquet_qrels,
    read_parquet_queries,
)
from t1_jax.retrieval.benchmarks.bright import (
    EXAMPLES,
    Example,
    read_bright_documents,
    read_examples,
    split_qrels,
)
from t1_jax.retrieval.benchmarks.parquet import parquet_files
from t1_jax.retrieval.benchmarks.rewriting import ORIGINAL, Rewriting
from t1_jax.retrieval.benchmarks.spec import Benchmark
from t1_jax.retrieval.collection import Collection, Document, Query
from t1_jax.retrieval.load import load_collection
from t1_jax.retrieval.validation import EXCLUDED_ABSENT_DOCUMENT, ValidationReport

SOURCE_FILE = "source.json"
"""Repository and commit of the data, which `t1 pull` writes beside them."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The documents of a corpus, and the flaws of their files."""

    documents: tuple[Document, ...]
    report: ValidationReport


@dataclass(frozen=True, kw_only=True)
class BenchmarkData:
    """Reads the tasks of a benchmark from a folder.

    Attributes:
        benchmark: the benchmark.
        folder: folder with the data; see `Benchmark.layout`.
        lenient: accept documents without text, and qrels of documents that the corpus lacks.
        strip_documents: remove white space around documents, as mteb does.
        rewriting: texts that replace those of the queries.
        hint: what to do if a file is missing.
    """

    benchmark: Benchmark
    folder: Path
    lenient: bool = False
    strip_documents: bool = False
    rewriting: Rewriting | None = None
    hint: str = "check the path of the data"

    @property
    def queries_name(self) -> str:
        """What tables call the queries: "original", or the name of the rewriting."""
        return ORIGINAL if self.rewriting is None else self.rewriting.name

    @cached_property
    def revisions(self) -> dict[str, str]:
        """Repository -> commit of the data, as far as it is known.

        Raises:
            DataError: it is not the commit of the benchmark.
        """
        known = read_source(self.folder)
        dataset, wanted = self.benchmark.dataset, self.benchmark.revision
        if dataset is None:
            return known
        found = known.get(dataset) or _snapshot_commit(self.folder)
        if found is None:
            return known
        if reason := self.benchmark.rejected_revisions.get(found):
            raise DataError(
                f"{self.folder} is revision {found} of {dataset}, which is rejected: {reason}",
                hint=f"get revision {wanted}",
            )
        if wanted is not None and found != wanted:
            raise DataError(
                f"{self.folder} is revision {found} of {dataset}, and {self.benchmark.name} has "
                f"{wanted}",
                hint="get that revision, or write a benchmark of your own with another `revision`",
            )
        return known | {dataset: found}

    def files(self, task: str) -> list[Path]:
        """The files of a task.

        Raises:
            DataError: one is missing.
        """
        if self.benchmark.layout == "beir":
            folder = self._task_folder(task)
            return sorted(path for path in folder.rglob("*") if path.is_file())
        return [*self._query_files(task), *self._document_files(task)]

    def file_hashes(self, task: str) -> dict[str, str]:
        """Path relative to the folder -> SHA-256, for the files of a task."""
        return {
            path.relative_to(self.folder).as_posix(): sha256_of(path) for path in self.files(task)
        }

    def queries(self, task: str) -> tuple[Query, ...]:
        """The queries of a task, rewritten if asked for; documents are not read.

        The layout `beir` has none before its documents are read.

        Raises:
            DataError: a file is missing or malformed, or has another number of queries or relevance
                labels than the benchmark.
        """
        if self.benchmark.layout == "beir":
            self._task_folder(task)
            return ()
        if self.benchmark.layout == "bright":
            queries = tuple(example.query for example in self._examples(task))
        else:
            queries = self._parquet_queries(task)
        asked = Collection(name=task, documents=(), queries=queries, qrels={})
        return self._rewritten(task, asked).queries

    def documents(self, task: str) -> Documents | None:
        """The documents of a task, for all tasks that share them; None in the layout `beir`.

        Raises:
            DataError: a file is missing or malformed.
        """
        report, benchmark = ValidationReport(), self.benchmark
        if benchmark.layout == "beir":
            return None
        files = self._document_files(task)
        read = read_bright_documents if benchmark.layout == "bright" else read_parquet_documents
        documents = read(files, report)
        if not documents:
            raise DataError(f"{files[0]} has no document with text")
        return Documents(documents=self._stripped(documents), report=report)

    def collection(self, task: str, documents: Documents | None = None) -> Collection:
        """The collection of a task; `documents` are those of its corpus, if they were read before.

        Raises:
            DataError: a file is missing or malformed; see `queries` and `documents`.
        """
        spec = self.benchmark.tasks[task]
        if self.benchmark.layout == "beir":
            collection = load_collection(
                self._task_folder(task), spec.split, lenient=self._is_lenient
            )
            collection = replace(collection, documents=self._stripped(collection.documents))
            self._check_count(task, "queries", [len(collection.queries)], spec.queries)
        else:
            known = documents or self.documents(task)
            assert known is not None
            collection = (
                self._bright_collection(task, known)
                if self.benchmark.layout == "bright"
                else self._parquet_collection(task, known)
            )
        dataset = spec.dataset or self.benchmark.dataset
        described = replace(
            collection,
            name=f"{self.benchmark.name}-{task}",
            task=self.benchmark.instruction_of(task),
            metadata={
                **collection.metadata,
                "benchmark": self.benchmark.title,
                "task": task,
                "queries": self.queries_name,
                **({} if dataset is None else {"dataset": dataset}),
                "revision": self.revisions.get(dataset or "", "unknown"),
            },
        )
        return self._rewritten(task, described)

    @property
    def _is_lenient(self) -> bool:
        return self.lenient or self.benchmark.lenient

    def _bright_collection(self, task: str, known: Documents) -> Collection:
        examples, report = self._examples(task), known.report.copy()
        ids = {document.id for document in known.documents}
        qrels, absent = split_qrels(examples, ids, report)
        report.raise_unless(self._is_lenient)
        report.ignore(
            EXCLUDED_ABSENT_DOCUMENT, sum(len(example.excluded - ids) for example in examples)
        )
        return Collection(
            name=task,
            documents=known.documents,
            queries=tuple(example.query for example in examples),
            qrels=qrels,
            excluded={
                example.query.id: found for example in examples if (found := example.excluded & ids)
            },
            absent_qrels=absent,
            notes=report.notes(),
        )

    def _parquet_collection(self, task: str, known: Documents) -> Collection:
        queries, report = self._parquet_queries(task), known.report.copy()
        qrels, absent = read_parquet_qrels(
            self._parquet(task, "qrels"),
            {query.id for query in queries},
            {document.id for document in known.documents},
            report,
        )
        report.raise_unless(self._is_lenient)
        return Collection(
            name=task,
            documents=known.documents,
            queries=queries,
            qrels=qrels,
            absent_qrels=absent,
            notes=report.notes(),
        )

    def _parquet_queries(self, task: str) -> tuple[Query, ...]:
        queries = tuple(read_parquet_queries(self._parquet(task, "queries")))
        self._check_count(task, "queries", [len(queries)], self.benchmark.tasks[task].queries)
        return queries

    def _examples(self, task: str) -> list[Example]:
        spec = self.benchmark.tasks[task]
        files = parquet_files(self.folder / EXAMPLES, task, hint=self.hint)
        examples = read_examples(files, self.benchmark.gold)
        # Published numbers of relevance labels count a repeated id once, or each time.
        qrels = [
            sum(len(example.gold) for example in examples),
            sum(len(set(example.gold)) for example in examples),
        ]
        self._check_count(task, "queries", [len(examples)], spec.queries)
        self._check_count(task, "relevance labels", qrels, spec.qrels)
        return examples

    def _check_count(self, task: str, what: str, found: Sequence[int], expected: int) -> None:
        if not expected or expected in found:
            return
        benchmark = self.benchmark
        reasons = "; ".join(
            f"revision {revision[:7]} is rejected: {reason}"
            for revision, reason in benchmark.rejected_revisions.items()
        )
        revision = benchmark.revision
        raise DataError(
            f"{self.folder}: {task} has {found[0]:,} {what}, and {benchmark.title} has "
            f"{expected:,}" + (f" ({reasons})" if reasons else ""),
            hint=f"get revision {revision} of {benchmark.dataset}" if revision else self.hint,
        )

    def _rewritten(self, task: str, collection: Collection) -> Collection:
        return collection if self.rewriting is None else self.rewriting.apply(task, collection)

    def _stripped(self, documents: tuple[Document, ...]) -> tuple[Document, ...]:
        if not self.strip_documents:
            return documents
        return tuple(
            replace(document, title=document.title.strip(), text=document.text.strip())
            for document in documents
        )

    def _query_files(self, task: str) -> list[Path]:
        if self.benchmark.layout == "bright":
            return parquet_files(self.folder / EXAMPLES, task, hint=self.hint)
        return [*self._parquet(task, "queries"), *self._parquet(task, "qrels")]

    def _document_files(self, task: str) -> list[Path]:
        corpus = self.benchmark.corpus_of(task)
        if self.benchmark.layout == "bright":
            return parquet_files(self.folder / self.benchmark.documents, corpus, hint=self.hint)
        return self._parquet(corpus, "corpus")

    def _parquet(self, task: str, part: str) -> list[Path]:
        split = self.benchmark.tasks[task].split
        return parquet_files(self._task_folder(task) / part, split, hint=self.hint)

    def _task_folder(self, task: str) -> Path:
        folder = self.folder / task
        if not folder.is_dir():
            raise DataError(f"{folder} does not exist", hint=self.hint)
        return folder


def read_source(folder: Path) -> dict[str, str]:
    """Repository -> commit, from the file that `write_source` wrote; empty without one.

    Raises:
        DataError: the file is malformed.
    """
    path = folder / SOURCE_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path))
        return {str(name): str(commit) for name, commit in content.items()}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is malformed: {error}", hint="delete it") from error


def write_source(folder: Path, commits: dict[str, str]) -> None:
    """Adds repositories and their commits to what `read_source` reads."""
    known = read_source(folder) | commits
    write_atomically(folder / SOURCE_FILE, json.dumps(known, indent=2) + "\n")


def _snapshot_commit(folder: Path) -> str | None:
    """The commit in the path of a snapshot in the cache of huggingface-hub."""
    parts = reversed(folder.absolute().parts)
    return next((part for part in parts if _COMMIT.fullmatch(part)), None)
