"""What `t1 search` searches with: an index and its model, or BM25 over texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from t1_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from t1_jax.cli.output import Output
    from t1_jax.generate import Thought
    from t1_jax.retrieval import BM25, Collection, Document, Index, Manifest, Run
    from t1_jax.retriever import OpenedModel


def check_run_output(path: Path, asked: "Collection", *, overwrite: bool) -> None:
    """Refuses a run that could not be written, before anything is computed.

    Raises:
        T1Error: the file is taken, or cannot be made there.
        DataError: ids of queries that become one in a TREC file.
    """
    from t1_jax.files import check_new_file
    from t1_jax.retrieval import trec_ids

    check_new_file(path, overwrite=overwrite)
    trec_ids(query.id for query in asked.queries)


@dataclass(frozen=True, kw_only=True)
class BM25Search:
    """BM25 over the texts of an index, a collection or a file."""

    words: "BM25"
    documents: "dict[str, Document]"
    tag: str = "bm25"

    @classmethod
    def open(cls, source: str, out: "Output", *, lenient: bool) -> "BM25Search":
        """Indexes the words of every document.

        Raises:
            DataError: there are no texts at `source`.
        """
        from t1_jax.cli.inputs import open_documents
        from t1_jax.retrieval import BM25, Collection, index_documents

        if (Path(source) / "manifest.json").is_file():
            kept = index_documents(Path(source))
            if not kept:
                raise DataError(
                    f"{source} keeps no texts, which BM25 needs",
                    hint="give the collection or the file of documents instead",
                )
            texts = Collection(name=Path(source).name, documents=kept, queries=(), qrels={})
        else:
            texts = open_documents(source, out, lenient=lenient)
        return cls(words=BM25.build(texts), documents=dict(texts.documents_by_id))

    @property
    def count(self) -> int:
        """Number of documents."""
        return len(self.documents)

    def check_ids(self, asked: "Collection", *, as_run: bool) -> None:
        """Refuses ids that a run cannot hold, and excluded documents that are not here."""
        _check_ids(self.documents, asked, as_run=as_run)

    def search(
        self, asked: "Collection", k: int, *, many: bool
    ) -> "tuple[Run, list[list[Thought]]]":
        """The best `k` documents of each query, and the thoughts about each (BM25 has none).

        Args:
            asked: the queries, and what each excludes.
            k: documents a query.
            many: whether these are queries of a file, which have ids of their own and a progress
                bar; the thought about a single query depends on its text instead.
        """
        from t1_jax.progress import track

        found: Run = {}
        with track("BM25", len(asked.queries), "queries", shown=many) as advance:
            for query in asked.queries:
                found |= self.words.search([query], k, asked.excluded)
                advance(1)
        return found, []


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseSearch:
    """An index, and the model that made it, whose weights are read by the first search."""

    folder: Path
    manifest: "Manifest"
    opened: "OpenedModel"
    how: Mapping[str, Any]
    ids: "dict[str, int]"
    documents: "dict[str, Document]" = field(default_factory=dict)
    tag: str = "t1"

    @property
    def count(self) -> int:
        """Number of documents."""
        return self.manifest.count

    def check_ids(self, asked: "Collection", *, as_run: bool) -> None:
        """Refuses ids that a run cannot hold, and excluded documents that are not here."""
        _check_ids(self.ids, asked, as_run=as_run)

    def search(
        self, asked: "Collection", k: int, *, many: bool
    ) -> "tuple[Run, list[list[Thought]]]":
        """As `BM25Search.search`, by the vectors of the queries."""
        from t1_jax.retrieval import load_index

        index: Index = load_index(self.folder, self.manifest.fingerprint)
        model = self.opened.load()
        names = [query.id for query in asked.queries]
        texts = [query.text for query in asked.queries]
        vectors, thoughts = model.encode_query(
            texts,
            query_ids=names if many else None,
            return_thoughts=True,
            show_progress_bar=many,
            **self.how,
        )
        excluded = [
            [self.ids[name] for name in asked.excluded.get(query_id, ())] for query_id in names
        ]
        return index.search(vectors, k, excluded).to_run(names, index.ids), thoughts


def open_dense(
    source: str,
    queries: Sequence[str],
    *,
    given: Mapping[str, str | None],
    model: str | None,
    thinking: Mapping[str, Any],
    sampling: Mapping[str, Any],
    out: "Output",
) -> DenseSearch:
    """Opens an index and its model, and checks all that can be checked without weights.

    Args:
        source: the folder of the index.
        queries: to be searched for.
        given: preset, dtype, task and instruction, None where the index decides.
        model: name or path; None takes the one that the index names.
        thinking: `think`, `n` and `max_thought_tokens` of `T1.encode_query`.
        sampling: fields of `SamplingParams`.
        out: is told the instruction.

    Raises:
        IndexContractError: no index, or one of another model.
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
    draw = SamplingParams(**sampling)
    record = manifest.encoding
    _refuse_contradictions(folder, record, given)
    limits = {name: record[name] for name in _LIMITS if name in record}
    opened = open_model(
        model or record.get("model", DEFAULT_MODEL),
        dtype=given["dtype"] or record.get("dtype", "bfloat16"),
        preset=PromptPreset(**record["preset"]) if "preset" in record else given["preset"],
        options=RetrieverOptions(**limits),
    )
    stored = record.get("instruction")
    chosen = stored or query_instruction(opened.preset, given["task"], given["instruction"])
    out.note(instruction_note(opened.preset, chosen))
    opened.check_queries(queries, instruction=chosen, **thinking)
    asked = document_fingerprint(opened, manifest.fingerprint.data)
    check_fingerprint(folder, manifest, asked)
    ids = json.loads((folder / "ids.json").read_bytes())
    return DenseSearch(
        folder=folder,
        manifest=manifest,
        opened=opened,
        how={**thinking, "instruction": chosen, "sampling": draw},
        ids={name: row for row, name in enumerate(ids)},
        documents={document.id: document for document in index_documents(folder)},
    )


Searcher: TypeAlias = BM25Search | DenseSearch

_LIMITS = ("max_query_tokens", "max_document_tokens")


def _refuse_contradictions(
    folder: Path, record: Mapping[str, Any], given: Mapping[str, str | None]
) -> None:
    """Raises ConfigError where an option differs from what the index was made with."""
    from t1_jax.cli.model import query_instruction
    from t1_jax.text import PromptPreset, load_preset

    if not record:
        return
    stored = PromptPreset(**record["preset"])
    differing = []
    if given["dtype"] is not None and given["dtype"] != record["dtype"]:
        differing.append(f"--dtype {given['dtype']}: the index has {record['dtype']}")
    if given["preset"] is not None and load_preset(given["preset"]).hash != stored.hash:
        differing.append(f"--preset {given['preset']}: the index has the prompts {stored.name!r}")
    if given["task"] is not None or given["instruction"] is not None:
        asked = query_instruction(stored, given["task"], given["instruction"])
        if asked != record["instruction"]:
            differing.append(f"the instruction {asked!r}: the index has {record['instruction']!r}")
    if differing:
        raise ConfigError(
            f"{folder} was made with other settings\n" + "\n".join(differing),
            hint="leave the option out, or build the index again with it",
        )


def _check_ids(known: Mapping[str, object], asked: "Collection", *, as_run: bool) -> None:
    from t1_jax.retrieval import trec_ids

    for query_id, names in asked.excluded.items():
        if absent := sorted(name for name in names if name not in known):
            raise DataError(
                f"query {query_id!r} excludes the document {absent[0]!r}, which is not indexed",
                hint="search an index of the collection that the queries belong to",
            )
    if as_run:
        trec_ids(known)
