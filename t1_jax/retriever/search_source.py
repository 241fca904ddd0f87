"""Opens what is searched, an index, files or a collection, and the model, without weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from t1_jax.errors import ConfigError, DataError, WeightsError
from t1_jax.generate import SamplingParams
from t1_jax.hub import collection_folder, open_documents
from t1_jax.progress import counted
from t1_jax.retrieval import (
    BM25,
    Collection,
    Document,
    FileState,
    Index,
    check_fingerprint,
    datasets,
    find_layout,
    index_documents,
    load_index,
    read_folder,
    read_manifest,
    trec_ids,
)
from t1_jax.retriever.canary import EQUAL_COSINE, differs_in_files_only, lowest_canary_cosine
from t1_jax.retriever.encoding import document_fingerprint, encoding_record
from t1_jax.retriever.folder_index import (
    StoredIndex,
    default_index_folder,
    read_stored_index,
    update_index,
)
from t1_jax.retriever.instruction import instruction_note, query_instruction
from t1_jax.retriever.opening import DEFAULT_MODEL, OpenedModel, RetrieverOptions, open_model
from t1_jax.retriever.t1 import T1
from t1_jax.retriever.thought_cache import ThoughtCache
from t1_jax.text import PromptPreset, load_preset


@runtime_checkable
class Notices(Protocol):
    """Where a search says what it does: the output of a command, or a log."""

    def log(self, text: str) -> None:
        """Takes a line about the work."""
        ...

    def warn(self, text: str) -> None:
        """Takes a line that a user should not overlook."""
        ...


def load_model(out: Notices, opened: OpenedModel, *, thought_cache: bool = False) -> T1:
    """Reads the weights, and warns if the model was never trained to retrieve.

    With `thought_cache`, thoughts are looked up in the cache of this machine, and stored there.
    """
    if opened.untrained_warning is not None:
        out.warn(opened.untrained_warning)
    return opened.load(thought_cache=ThoughtCache() if thought_cache else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The texts of a search.

    Attributes:
        name: what the user gave.
        documents: all documents, in order; empty for an index of vectors only.
        root: folder of the files, or None for an index that was built of something else.
        index: folder of the index; may not exist yet for a folder of files.
        stored: the index as it is there; None if there is none, or with `--bm25`.
        files: state of each file that was read.
        task: the task of a known collection.
    """

    name: str
    documents: Sequence[Document]
    root: Path | None
    index: Path
    stored: StoredIndex | None
    files: Mapping[str, FileState] = field(default_factory=dict)
    task: str | None = None

    @property
    def documents_by_id(self) -> dict[str, Document]:
        """The documents by id; empty for an index of vectors only."""
        return {document.id: document for document in self.documents}

    @property
    def ids(self) -> Sequence[str]:
        """Ids of all documents."""
        if self.root is None and self.stored is not None:
            return self.stored.table.ids
        return [document.id for document in self.documents]

    def check_ids(self, queries: Collection, *, as_run: bool) -> None:
        """Raises DataError for excluded documents that are missing, and ids that clash in a run."""
        known = set(self.ids)
        for query_id, names in queries.excluded.items():
            if absent := sorted(name for name in names if name not in known):
                raise DataError(
                    f"query {query_id!r} excludes the document {absent[0]!r}, which is not indexed",
                    hint="search an index of the collection that the queries belong to",
                )
        if as_run:
            trec_ids(self.ids)

    def bm25(self) -> BM25:
        """BM25 over the documents.

        Raises:
            DataError: there are no texts.
        """
        if not self.documents:
            raise DataError(
                f"{self.name} has no texts, and BM25 needs them",
                hint="give the collection or the file of documents instead",
            )
        return BM25.build(
            Collection(name=self.name, documents=tuple(self.documents), queries=(), qrels={})
        )


def open_source(
    source: str, index: Path | None, out: Notices, *, lenient: bool, bm25: bool
) -> Source:
    """Reads the documents of an index, a folder of files, a collection or a file of documents.

    Of a folder only new and changed files are read. With `bm25` no embeddings are read.

    Raises:
        DataError: nothing is there, or it has no texts.
        IndexContractError: the index is damaged.
        ConfigError: `index` is given for something that is an index.
    """
    is_known = source in datasets.DATASETS
    path = collection_folder(source) if is_known else Path(source)
    if (path / "manifest.json").is_file():
        if index is not None:
            raise ConfigError(f"{source} is an index itself", hint="leave --index out")
        return _open_index(path, out, lenient=lenient, bm25=bm25)
    folder = index or default_index_folder(path)
    stored = None if bm25 else read_stored_index(folder)
    return _read_texts(source, path, folder, stored, out, lenient=lenient)


def _open_index(path: Path, out: Notices, *, lenient: bool, bm25: bool) -> Source:
    manifest = read_manifest(path)
    documents = index_documents(path)
    stored = None
    if not bm25:
        index = load_index(path, manifest.fingerprint)
        stored = StoredIndex(manifest=manifest, documents=documents, table=index.table)
    root = manifest.source.get("root")
    if root is not None and Path(root).exists():
        return _read_texts(root, Path(root), path, stored, out, lenient=lenient)
    if root is not None:
        out.log(f"{root} is gone; searching what was indexed")
    return Source(name=str(path), documents=documents, root=None, index=path, stored=stored)


def _read_texts(
    name: str,
    path: Path,
    index: Path,
    stored: StoredIndex | None,
    out: Notices,
    *,
    lenient: bool,
) -> Source:
    """The documents of a collection, which keep their ids, or of files, as far as they changed."""
    if path.exists() and not _is_collection(path):
        return _read_folder(name, path, index, stored, out)
    texts = open_documents(name, lenient)
    for flaw, count in texts.notes.items():
        out.log(f"{texts.name}: {counted(count, flaw)}")
    return Source(
        name=name,
        documents=texts.documents,
        root=path,
        index=index,
        stored=stored,
        task=texts.task,
    )


def _read_folder(
    name: str, path: Path, folder: Path, stored: StoredIndex | None, out: Notices
) -> Source:
    if stored is None:
        contents = read_folder(path)
    else:
        contents = read_folder(path, stored.files, stored.documents)
    if contents.skipped:
        reasons: dict[str, list[str]] = {}
        for file, reason in contents.skipped.items():
            reasons.setdefault(reason, []).append(file)
        for reason, files in reasons.items():
            more = "" if len(files) == 1 else " ..."
            out.log(f"skipped {counted(len(files), 'files')} ({reason}): {files[0]}{more}")
    return Source(
        name=name,
        documents=contents.documents,
        root=path,
        index=folder,
        stored=stored,
        files=contents.files,
    )


def _is_collection(path: Path) -> bool:
    """Whether this is the folder of a collection, or a JSONL file of documents with ids."""
    if path.is_dir():
        return find_layout(path) is not None
    if path.name.endswith(".jsonl.gz"):
        return True
    if path.suffix != ".jsonl":
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        try:
            return "_id" in json.loads(file.readline())
        except (ValueError, TypeError):
            return False


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseSearch:
    """A source and the model that embeds it, checked; `load` reads the weights.

    Attributes:
        source: the documents.
        opened: the model.
        encoding: settings that the index records.
        query_options: options of `T1.encode_query`.
        thought_cache: whether thoughts are read from the cache of this machine, and stored there.
        loaded: the model with its weights, if it was loaded before.
    """

    source: Source
    opened: OpenedModel
    encoding: Mapping[str, Any]
    query_options: Mapping[str, Any]
    thought_cache: bool = True
    loaded: T1 | None = None

    @property
    def is_hybrid_by_default(self) -> bool:
        """Whether the documents are files that the model was not trained on."""
        trained_on = self.opened.provenance.trained_on or ()
        root = self.source.root
        return root is not None and root.resolve().name not in trained_on

    def load(self, out: Notices) -> tuple[Index, T1]:
        """Reads the weights, encodes what the index lacks, and writes it.

        An index of other model files, such as those of an export, is accepted if the model gives
        the embeddings that it stores.

        Raises:
            IndexMismatchError: the model gives others, and the index is not one of files.
        """
        source = self.source
        model = self.loaded
        if model is None:
            model = load_model(out, self.opened, thought_cache=self.thought_cache)
        elif self.opened.untrained_warning is not None:
            out.warn(self.opened.untrained_warning)
        if source.root is None:
            assert source.stored is not None
            self._check_canaries(source.stored, model, out)
            return load_index(source.index, source.stored.manifest.fingerprint), model
        try:
            update = update_index(
                source.index,
                source.stored,
                source.documents,
                source.files,
                root=source.root,
                encoding=self.encoding,
                opened=self.opened,
                load=lambda: model,
                show_progress_bar=True,
                log=out.log,
            )
        except KeyboardInterrupt:
            out.log("what was encoded is kept: the same command goes on from there")
            raise
        if update.encoded or update.removed:
            out.log(
                f"{source.index}: {counted(len(source.documents), 'passages')}, "
                f"{update.encoded:,} encoded, {update.removed:,} removed"
            )
        return update.index, model

    def _check_canaries(self, stored: StoredIndex, model: T1, out: Notices) -> None:
        """Compares embeddings if the files of the model are not those of the index."""
        expected = document_fingerprint(self.opened, stored.manifest.fingerprint.data)
        if expected == stored.manifest.fingerprint:
            return
        cosine = lowest_canary_cosine(model, stored.documents, stored.table)
        if cosine < EQUAL_COSINE:
            out.log(f"embeddings of the same texts have a cosine of {cosine:.4f} or more")
            check_fingerprint(self.source.index, stored.manifest, expected)
        out.log("another encoder that gives the same embeddings: the index is accepted")


def open_dense(
    source: Source,
    queries: Sequence[str],
    *,
    overrides: Mapping[str, str | None],
    model: str | T1 | None,
    thinking: Mapping[str, Any],
    sampling: Mapping[str, Any],
    thought_cache: bool,
    out: Notices,
) -> DenseSearch:
    """Opens the model of an index, or the one for a folder, and checks queries and settings.

    `overrides` has preset, dtype, task and instruction, `thinking` the options of
    `T1.encode_query` and the number of candidates, `sampling` the fields of `SamplingParams`. None
    takes the index's value. An index of a folder takes another value; in any other index a
    contradiction is an error. `thought_cache` is that of `DenseSearch`.

    Raises:
        IndexContractError: an index of another model.
        ConfigError: an option contradicts the index or a loaded model, or a prompt does not fit the
            model.
        WeightsError: a loaded model that was built from parts.
    """
    loaded = model if isinstance(model, T1) else None
    params = SamplingParams(**sampling)
    manifest = None if source.stored is None else source.stored.manifest
    record: Mapping[str, Any] = {} if manifest is None else manifest.encoding
    opened = None
    if isinstance(model, T1):
        opened = _opened(model, overrides)
        name = opened.name
    else:
        name = model or record.get("model", DEFAULT_MODEL)
    if source.root is None:
        _check_overrides(source.index, record, overrides)
    elif name != record.get("model"):
        record = {}  # settings of another model
    if opened is None:
        preset = overrides["preset"] if source.root is not None or "preset" not in record else None
        opened = open_index_model(record, name, dtype=overrides["dtype"], preset=preset)
    task, instruction = overrides["task"], overrides["instruction"]
    if task is None and instruction is None and "instruction" in record:
        instruction = record["instruction"]
    else:
        instruction = query_instruction(opened.preset, task, instruction, source.task)
    if opened.preset.uses_instruction:
        out.log(instruction_note(opened.preset, instruction))
    own = dict(thinking)
    given, candidates = own.pop("thoughts", None), own.pop("candidates", 0)
    opened.check_document_prompt()
    opened.check_queries(
        queries, instruction=instruction, sampling=params, candidates=candidates, **own
    )
    encoding = encoding_record(opened, name, instruction)
    if source.root is None:
        assert manifest is not None
        expected = document_fingerprint(opened, manifest.fingerprint.data)
        if not (source.documents and differs_in_files_only(manifest, expected, encoding)):
            check_fingerprint(source.index, manifest, expected)  # otherwise `load` compares more
    return DenseSearch(
        source=source,
        opened=opened,
        encoding=encoding,
        query_options={
            **own, "thoughts": given, "instruction": instruction, "sampling": params
        },
        thought_cache=thought_cache,
        loaded=loaded,
    )  # fmt: skip


def _opened(model: T1, overrides: Mapping[str, str | None]) -> OpenedModel:
    """What a loaded model was loaded from."""
    if model.opened is None:
        raise WeightsError(
            "this model was built from parts, so its checkpoint is unknown",
            hint="load it with T1.load",
        )
    if given := [name for name in ("dtype", "preset") if overrides[name] is not None]:
        raise ConfigError(
            f"the model is loaded, and its {' and '.join(given)} cannot change",
            hint="leave it out, or give the name of the model",
        )
    return model.opened


_LIMITS = ("max_query_tokens", "max_document_tokens")


def open_index_model(
    record: Mapping[str, Any], name: str, *, dtype: str | None = None, preset: str | None = None
) -> OpenedModel:
    """A model with the settings of an index, but for those that are given.

    Args:
        record: `Manifest.encoding`; may be empty.
        name: of the model.
        dtype: of weights and activations.
        preset: prompts.
    """
    return open_model(
        name,
        dtype=dtype or record.get("dtype", "bfloat16"),
        preset=preset or (PromptPreset(**record["preset"]) if "preset" in record else None),
        options=RetrieverOptions(**{key: record[key] for key in _LIMITS if key in record}),
    )


def _check_overrides(
    folder: Path, record: Mapping[str, Any], overrides: Mapping[str, str | None]
) -> None:
    """Raises ConfigError if an option differs from the settings of the index."""
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


def hybrid_note(dense: DenseSearch, otherwise: str) -> str:
    """Why a folder is ranked by BM25 and vectors together: what the model was trained on.

    `otherwise` is what a user writes for vectors alone.
    """
    trained_on = dense.opened.provenance.trained_on
    if trained_on:
        topics = [
            f"{name} ({datasets.DATASETS[name].topic})" if name in datasets.DATASETS else name
            for name in trained_on
        ]
        reason = f"was trained on {' and '.join(topics)}, not on {dense.source.name}"
    elif trained_on is None:
        reason = "does not say what it was trained on"
    else:
        reason = "was not trained to retrieve"
    return (
        f"{dense.encoding['model']} {reason}: BM25 and vectors rank together "
        f"({otherwise}: vectors alone)"
    )
