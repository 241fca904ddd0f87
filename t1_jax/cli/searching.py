"""The two back ends of `t1 search`: a dense index with its model, and BM25 over texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from t1_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from t1_jax.cli.output import Output
    from t1_jax.generate import Thought
    from t1_jax.retrieval import BM25, Collection, Document, Fingerprint, Index, Manifest, Run
    from t1_jax.retriever import T1, OpenedModel


def check_run_output(path: Path, queries: "Collection", *, overwrite: bool) -> None:
    """Checks that a run can be written, before anything is computed.

    Raises:
        T1Error: the file exists, or cannot be created.
        DataError: two query ids would become one in a TREC file.
    """
    from t1_jax.files import check_new_file
    from t1_jax.retrieval import trec_ids

    check_new_file(path, overwrite=overwrite)
    trec_ids(query.id for query in queries.queries)


@dataclass(frozen=True, kw_only=True)
class BM25Search:
    """BM25 over the texts of an index, a collection or a file."""

    bm25: "BM25"
    documents: "dict[str, Document]"
    tag: str = "bm25"

    @classmethod
    def open(cls, source: str, out: "Output", *, lenient: bool) -> "BM25Search":
        """Reads the documents of `source` and builds BM25 over them.

        Raises:
            DataError: `source` has no texts.
        """
        from t1_jax.cli.inputs import open_documents
        from t1_jax.retrieval import BM25, Collection, index_documents

        if (Path(source) / "manifest.json").is_file():
            documents = index_documents(Path(source))
            if not documents:
                raise DataError(
                    f"{source} has no texts, and BM25 needs them",
                    hint="give the collection or the file of documents instead",
                )
            texts = Collection(name=Path(source).name, documents=documents, queries=(), qrels={})
        else:
            texts = open_documents(source, out, lenient=lenient)
        return cls(bm25=BM25.build(texts), documents=dict(texts.documents_by_id))

    @property
    def count(self) -> int:
        """Number of documents."""
        return len(self.documents)

    def check_ids(self, queries: "Collection", *, as_run: bool) -> None:
        """Raises DataError for excluded documents that are missing, and ids that clash in a run."""
        _check_ids(self.documents, queries, as_run=as_run)

    def search(
        self, queries: "Collection", k: int, *, many: bool
    ) -> "tuple[Run, list[list[Thought]]]":
        """The best `k` documents of each query, and the thoughts about each (BM25 has none).

        With `many`, the queries come from a file: they have ids, from which their thoughts are
        seeded, and a progress bar is shown. A single query is seeded by its text.
        """
        from t1_jax.progress import track

        run: Run = {}
        with track("BM25", len(queries.queries), "queries", shown=many) as advance:
            for query in queries.queries:
                run |= self.bm25.search([query], k, queries.excluded)
                advance(1)
        return run, []


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseSearch:
    """An index and the model that made it. The first search loads the weights."""

    folder: Path
    manifest: "Manifest"
    opened: "OpenedModel"
    query_options: Mapping[str, Any]
    out: "Output"
    ids: "dict[str, int]"
    expected: "Fingerprint"
    documents: "dict[str, Document]" = field(default_factory=dict)
    tag: str = "t1"

    @property
    def count(self) -> int:
        """Number of documents."""
        return self.manifest.count

    def load(self) -> "tuple[Index, T1]":
        """The index, and the model with its weights.

        A model of other files, such as one that was exported again, is accepted if it gives the
        embeddings that the index stores.

        Raises:
            IndexMismatchError: it gives others.
        """
        from t1_jax.retrieval import check_fingerprint, load_index
        from t1_jax.retriever import EQUAL_COSINE, lowest_canary_cosine

        index, model = load_index(self.folder, self.manifest.fingerprint), self.opened.load()
        if self.expected != self.manifest.fingerprint:
            cosine = lowest_canary_cosine(model, list(self.documents.values()), index.table)
            if cosine < EQUAL_COSINE:
                self.out.log(f"embeddings of the same texts have a cosine of {cosine:.4f} or more")
                check_fingerprint(self.folder, self.manifest, self.expected)
            self.out.log("another encoder that gives the same embeddings: the index is accepted")
        return index, model

    def check_ids(self, queries: "Collection", *, as_run: bool) -> None:
        """See `BM25Search.check_ids`."""
        _check_ids(self.ids, queries, as_run=as_run)

    def search(
        self, queries: "Collection", k: int, *, many: bool
    ) -> "tuple[Run, list[list[Thought]]]":
        """See `BM25Search.search`."""
        index, model = self.load()
        query_ids = [query.id for query in queries.queries]
        texts = [query.text for query in queries.queries]
        vectors, thoughts = model.encode_query(
            texts,
            query_ids=query_ids if many else None,
            return_thoughts=True,
            show_progress_bar=many,
            **self.query_options,
        )
        excluded = [
            [self.ids[name] for name in queries.excluded.get(query_id, ())]
            for query_id in query_ids
        ]
        return index.search(vectors, k, excluded).to_run(query_ids, index.ids), thoughts


def open_dense(
    source: str,
    queries: Sequence[str],
    *,
    overrides: Mapping[str, str | None],
    model: str | None,
    thinking: Mapping[str, Any],
    sampling: Mapping[str, Any],
    out: "Output",
) -> DenseSearch:
    """Opens an index and its model, and checks what can be checked without weights.

    `overrides` has preset, dtype, task and instruction, `thinking` the options of
    `T1.encode_query`, `sampling` the fields of `SamplingParams`. None takes the index's value.

    Raises:
        IndexContractError: no index, or an index of another model.
        ConfigError: an option contradicts the index, or a prompt does not fit the model.
    """
    import json

    from t1_jax.cli.model import document_fingerprint, instruction_note, query_instruction
    from t1_jax.cli.options import DEFAULT_MODEL
    from t1_jax.generate import SamplingParams
    from t1_jax.retrieval import check_fingerprint, index_documents, read_manifest
    from t1_jax.retriever import RetrieverOptions, open_model
    from t1_jax.text import PromptPreset

    folder = Path(source)
    manifest = read_manifest(folder)
    params = SamplingParams(**sampling)
    record = manifest.encoding
    _check_overrides(folder, record, overrides)
    limits = {name: record[name] for name in _LIMITS if name in record}
    opened = open_model(
        model or record.get("model", DEFAULT_MODEL),
        dtype=overrides["dtype"] or record.get("dtype", "bfloat16"),
        preset=PromptPreset(**record["preset"]) if "preset" in record else overrides["preset"],
        options=RetrieverOptions(**limits),
    )
    stored = record.get("instruction")
    instruction = stored or query_instruction(
        opened.preset, overrides["task"], overrides["instruction"]
    )
    out.log(instruction_note(opened.preset, instruction))
    opened.check_queries(queries, instruction=instruction, **thinking)
    expected = document_fingerprint(opened, manifest.fingerprint.data)
    documents = {document.id: document for document in index_documents(folder)}
    same_prompt = expected.prompt == manifest.fingerprint.prompt
    if not (documents and same_prompt):  # otherwise `load` compares embeddings
        check_fingerprint(folder, manifest, expected)
    ids = json.loads((folder / "ids.json").read_bytes())
    return DenseSearch(
        folder=folder,
        manifest=manifest,
        opened=opened,
        query_options={**thinking, "instruction": instruction, "sampling": params},
        out=out,
        ids={name: row for row, name in enumerate(ids)},
        expected=expected,
        documents=documents,
    )


Searcher: TypeAlias = BM25Search | DenseSearch

_LIMITS = ("max_query_tokens", "max_document_tokens")


def _check_overrides(
    folder: Path, record: Mapping[str, Any], overrides: Mapping[str, str | None]
) -> None:
    """Raises ConfigError if an option differs from the settings of the index."""
    from t1_jax.cli.model import query_instruction
    from t1_jax.text import PromptPreset, load_preset

    if not record:
        return
    stored = PromptPreset(**record["preset"])
    differing = []
    if overrides["dtype"] is not None and overrides["dtype"] != record["dtype"]:
        differing.append(f"--dtype {overrides['dtype']}: the index has {record['dtype']}")
    if overrides["preset"] is not None and load_preset(overrides["preset"]).hash != stored.hash:
        differing.append(f"--preset {overrides['preset']}: the index has {stored.name!r}")
    if overrides["task"] is not None or overrides["instruction"] is not None:
        chosen = query_instruction(stored, overrides["task"], overrides["instruction"])
        if chosen != record["instruction"]:
            differing.append(f"the instruction {chosen!r}: the index has {record['instruction']!r}")
    if differing:
        raise ConfigError(
            f"{folder} was made with other settings\n" + "\n".join(differing),
            hint="leave the option out, or build the index again with it",
        )


def _check_ids(known: Mapping[str, object], queries: "Collection", *, as_run: bool) -> None:
    from t1_jax.retrieval import trec_ids

    for query_id, names in queries.excluded.items():
        if absent := sorted(name for name in names if name not in known):
            raise DataError(
                f"query {query_id!r} excludes the document {absent[0]!r}, which is not indexed",
                hint="search an index of the collection that the queries belong to",
            )
    if as_run:
        trec_ids(known)
