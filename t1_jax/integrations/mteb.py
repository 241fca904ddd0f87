"""T1 in mteb: its tasks and benchmarks run with queries that think.

pip install "t1_jax[mteb]"
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from mteb._create_dataloaders import create_dataloader  # as mteb's own search wrappers do
from mteb.models import ModelMeta
from mteb.similarity_functions import cos_sim, pairwise_cos_sim
from mteb.types import PromptType

from t1_jax.errors import DataError, WeightsError
from t1_jax.generate import Thought
from t1_jax.retrieval import Index, Run, build_index, rank_documents
from t1_jax.retriever import DEFAULT_MODEL, T1
from t1_jax.text import PromptPreset

_EMPTY = "(no text)"
"""Stands for a blank text, which T1 does not encode; mteb's corpora have some."""


class T1Encoder:
    """T1 as mteb's `EncoderProtocol` and `SearchProtocol`.

    ```python
    model = T1Encoder(T1.load("t1-smollm2-135m"), max_thought_tokens=64)
    mteb.evaluate(model, mteb.get_tasks(tasks=["BrightBiologyRetrieval"]))
    ```

    Queries of retrieval tasks are embedded after a thought; documents, and the texts of tasks that
    have no queries, in one pass. A document is its title on a line of its own and its text, as in
    `t1 evaluate`, without mteb's stripping.

    Attributes:
        thoughts: query id -> the thoughts of the last search.
        mteb_model_meta: what mteb knows about the model; see `model_meta`.
    """

    def __init__(
        self,
        model_name: T1 | str | Path = DEFAULT_MODEL,
        revision: str | None = None,
        *,
        device: str | None = None,
        instructions: Mapping[str, str] | None = None,
        index: str = "numpy",
        meta: ModelMeta | None = None,
        **query_options: Any,
    ) -> None:
        """Wraps a model.

        Args:
            model_name: a loaded model, or the argument of `T1.load`.
            revision: for the metadata; default that of `model_meta`.
            device: not used: JAX runs on the devices that it finds.
            instructions: name of an mteb task -> query instruction. Without an entry, the
                instruction is that of the preset for BRIGHT's tasks, then mteb's prompt for the
                task, then the preset's default.
            index: back end of the search, see `t1_jax.retrieval.build_index`.
            meta: metadata, such as `model_meta(model, "owner/name", license="mit")`.
            **query_options: keyword arguments of `T1.encode_query`, such as `max_thought_tokens`.

        Raises: as `T1.load`.
        """
        self.model = model_name if isinstance(model_name, T1) else T1.load(model_name)
        self.thoughts: dict[str, list[Thought]] = {}
        self.mteb_model_meta = meta or model_meta(self.model, revision=revision)
        self._instructions = dict(instructions or {})
        self._index_kind = index
        self._query_options = query_options
        self._index: Index | None = None

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Unit vectors [B, D] of batches of texts; queries think, everything else does not."""
        if prompt_type != PromptType.query:
            return self.model.encode_document(_documents(inputs), **_options(kwargs))
        return self.model.encode_query(
            _queries(inputs),
            instruction=self.instruction(task_metadata),
            **_options(kwargs),
            **self._query_options,
        )

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any],
        num_proc: int | None = None,
    ) -> None:
        """Embeds the documents; equal texts once."""
        batches = create_dataloader(
            corpus,
            task_metadata=task_metadata,
            prompt_type=PromptType.document,
            num_proc=num_proc,
            **encode_kwargs,
        )
        ids = list(corpus["id"])
        vectors = self.model.encode_document(
            _documents(batches), document_ids=ids, **_options(encode_kwargs)
        )
        self._index = build_index(self._index_kind, ids, vectors)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
    ) -> Run:
        """The top `top_k` documents of each query, among those of `top_ranked` if it is given.

        Raises:
            DataError: `index` was not called before.
        """
        if self._index is None:
            raise DataError("the documents are not indexed", hint="call index before search")
        batches = create_dataloader(
            queries,
            task_metadata=task_metadata,
            prompt_type=PromptType.query,
            num_proc=num_proc,
            **encode_kwargs,
        )
        ids = list(queries["id"])
        vectors, thoughts = self.model.encode_query(
            _queries(batches),
            query_ids=ids,
            instruction=self.instruction(task_metadata),
            return_thoughts=True,
            **_options(encode_kwargs),
            **self._query_options,
        )
        self.thoughts = dict(zip(ids, thoughts, strict=True))
        if top_ranked is None:
            return self._index.search(vectors, top_k).to_run(ids, self._index.ids)
        return {
            query_id: _rank_among(self._index, vector, top_ranked.get(query_id, ()), top_k)
            for query_id, vector in zip(ids, vectors, strict=True)
        }

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine of all pairs, as a torch tensor [A, B]."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine of each row with the same row, as a torch tensor [B]."""
        return pairwise_cos_sim(embeddings1, embeddings2)

    def instruction(self, task_metadata: Any) -> str | None:
        """The query instruction for a task; None for prompts without one.

        Args:
            task_metadata: mteb's `TaskMetadata`.
        """
        return query_instruction(self.model.preset, task_metadata, self._instructions)


def query_instruction(
    preset: PromptPreset, task_metadata: Any, instructions: Mapping[str, str]
) -> str | None:
    """The instruction of T1's query prompt for an mteb task; see `T1Encoder`."""
    if not preset.uses_instruction:
        return None
    if task_metadata.name in instructions:
        return instructions[task_metadata.name]
    if (task := bright_task(task_metadata.name)) in preset.instructions:
        return preset.instruction(task)
    prompt = task_metadata.prompt
    if isinstance(prompt, Mapping):
        prompt = prompt.get("query")
    # The template of the preset ends the sentence.
    return prompt.rstrip(" .:") if prompt else preset.default_instruction


def bright_task(name: str) -> str | None:
    """T1's name of a BRIGHT task, such as `biology_long` for `BrightBiologyLongRetrieval`."""
    match = re.fullmatch(r"Bright(?:Pro)?(\w+?)(Long)?Retrieval", name)
    if match is None:
        return None
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", match[1].replace("QA", "qa")).lower()
    words = words.replace("qatheorems", "qa_theorems").replace("qaquestions", "qa_questions")
    return f"{words}_long" if match[2] else words


def model_meta(
    model: T1, name: str | None = None, *, revision: str | None = None, **fields: Any
) -> ModelMeta:
    """Mteb's description of a model, for its results folder and a submission.

    Args:
        model: the model.
        name: `owner/name`; default `t1_jax/NAME`, with the name of its folder.
        revision: of the weights. Default: a hash of weights, tokenizer and prompts, so that
            mteb's cache never takes results of another model.
        **fields: fields of `ModelMeta` that T1 does not know, such as `license`, `release_date`,
            `training_datasets`, `public_training_code`.
    """
    parameters = nnx.state(model.decoder, nnx.Param)
    leaves = jax.tree.leaves(parameters)
    vocabulary, width = model.decoder.config.vocab_size, model.embed_dim
    known: dict[str, Any] = {
        "loader": T1Encoder,
        "name": name or f"t1_jax/{_short_name(model)}",
        "revision": revision or _revision(model),
        "release_date": None,
        "languages": ["eng-Latn"],
        "n_parameters": sum(leaf.size for leaf in leaves),
        "n_embedding_parameters": vocabulary * width,
        "memory_usage_mb": sum(leaf.nbytes for leaf in leaves) / 2**20,
        "max_tokens": model.options.max_document_tokens,
        "embed_dim": width,
        "license": None,
        "open_weights": True,
        "public_training_code": None,
        "public_training_data": None,
        "framework": ["JAX"],
        "similarity_fn_name": "cosine",
        "use_instructions": model.preset.uses_instruction,
        "training_datasets": None,
    }
    return ModelMeta(**known | fields)


def _short_name(model: T1) -> str:
    return "model" if model.provenance is None else Path(model.provenance.name).stem


def _revision(model: T1) -> str:
    try:
        weights = model.fingerprint
    except WeightsError:  # built from parts
        weights = "unknown"
    return hashlib.sha256(f"{weights} {model.preset.hash}".encode()).hexdigest()[:40]


def _queries(batches: Iterable[Mapping[str, Any]]) -> list[str]:
    return [text if text.strip() else _EMPTY for batch in batches for text in batch["text"]]


def _documents(batches: Iterable[Mapping[str, Any]]) -> list[str]:
    """Title and text of each document as in `Document.full_text`; other tasks have `text` only."""
    texts: list[str] = []
    for batch in batches:
        bodies = batch.get("body", batch["text"])
        titles = batch.get("title") or [""] * len(bodies)
        texts += [_full_text(title or "", body) for title, body in zip(titles, bodies, strict=True)]
    return texts


def _full_text(title: str, body: str) -> str:
    if not body.strip():
        return title if title.strip() else _EMPTY
    return f"{title}\n{body}" if title.strip() else body


def _options(encode_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The encode kwargs of mteb that T1 has too; they have the same names."""
    names = ("batch_size", "show_progress_bar", "precision")
    return {name: encode_kwargs[name] for name in names if encode_kwargs.get(name) is not None}


def _rank_among(
    index: Index, vector: np.ndarray, candidates: Sequence[str], k: int
) -> dict[str, float]:
    """The top `k` of some documents for one query."""
    ids = list(dict.fromkeys(candidates))
    rows = np.array(index.table.rows_of(ids), np.int64)
    if len(rows) * 2 > len(index.ids):  # cheaper than copying their vectors
        excluded = np.setdiff1d(np.arange(len(index.ids)), rows).tolist()
        (run,) = index.search(vector[None], k, [excluded]).to_run(["query"], index.ids).values()
        return run
    scores = index.vectors[rows] @ index.table.normalize_queries(vector[None])[0]
    order: list[int] = rank_documents(scores, ids, k).tolist()
    return {ids[row]: float(scores[row]) for row in order}
