"""T1 in LlamaIndex: an embedding model for its indexes, and a retriever.

pip install "t1_jax[llama-index]"
"""

import asyncio
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from t1_jax.integrations.metadata import hit_metadata
from t1_jax.integrations.remote import RemoteT1
from t1_jax.retriever import T1, Searcher


class T1Embedding(BaseEmbedding):
    """Embeds documents in one pass, and queries after a thought.

    ```python
    Settings.embed_model = T1Embedding(T1.load("t1-smollm2-135m"), max_thought_tokens=24)
    ```

    Args:
        model: a loaded model, or `RemoteT1` for one that is served.
        embed_batch_size: texts that LlamaIndex hands over at once.
        **query_options: keyword arguments of `T1.encode_query`, such as `max_thought_tokens`.
    """

    _model: T1 | RemoteT1 = PrivateAttr()
    _query_options: dict[str, Any] = PrivateAttr()

    def __init__(
        self, model: T1 | RemoteT1, *, embed_batch_size: int = 64, **query_options: Any
    ) -> None:
        super().__init__(model_name=repr(model), embed_batch_size=embed_batch_size)
        self._model = model
        self._query_options = query_options

    @classmethod
    def class_name(cls) -> str:
        """Name in serialized settings."""
        return "T1Embedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._model.encode_query(query, **self._query_options).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._model.encode_document(text).tolist()

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model.encode_document(texts).tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class T1Retriever(BaseRetriever):
    """Searches files, a collection or an index, in this process or behind `t1 serve`.

    Args:
        searcher: a `Searcher`, or `RemoteT1` for a service.
        k: documents per query.
        **search_options: keyword arguments of its `search`, such as `max_thought_tokens`.
    """

    def __init__(
        self, searcher: Searcher | RemoteT1, *, k: int = 10, **search_options: Any
    ) -> None:
        super().__init__()
        self._searcher = searcher
        self._k = k
        self._search_options = search_options

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._searcher.search(query_bundle.query_str, self._k, **self._search_options)
        return [
            NodeWithScore(
                node=TextNode(id_=hit.id, text=hit.text, metadata=hit_metadata(hit)),
                score=hit.score,
            )
            for hit in hits
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)
