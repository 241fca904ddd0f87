"""T1 in LangChain: embeddings for any vector store, and a retriever.

pip install "t1_jax[langchain]"
"""

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from t1_jax.integrations.metadata import hit_metadata
from t1_jax.integrations.remote import RemoteT1
from t1_jax.retriever import T1, Searcher


class T1Embeddings(Embeddings):
    """Embeds documents in one pass, and queries after a thought.

    ```python
    store = InMemoryVectorStore(T1Embeddings(T1.load("t1-smollm2-135m"), max_thought_tokens=24))
    ```

    Args:
        model: a loaded model, or `RemoteT1` for one that is served.
        **query_options: keyword arguments of `T1.encode_query`, such as `max_thought_tokens`.
    """

    def __init__(self, model: T1 | RemoteT1, **query_options: Any) -> None:
        self.model = model
        self.query_options = query_options

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Unit vectors, one for each text."""
        return self.model.encode_document(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of a query, after the model's thought about it."""
        return self.model.encode_query(text, **self.query_options).tolist()


class T1Retriever(BaseRetriever):
    """Searches files, a collection or an index, in this process or behind `t1 serve`.

    ```python
    retriever = T1Retriever(searcher=Searcher.open("notes/"), k=5)
    documents = retriever.invoke("why is the sky blue")
    ```

    Attributes:
        searcher: a `Searcher`, or `RemoteT1` for a service.
        k: documents per query.
        search_options: keyword arguments of its `search`, such as `max_thought_tokens`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    searcher: Searcher | RemoteT1
    k: int = 10
    search_options: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        hits = self.searcher.search(query, self.k, **self.search_options)
        return [
            Document(
                id=hit.id,
                page_content=hit.text,
                metadata=hit_metadata(hit) | {"score": hit.score},
            )
            for hit in hits
        ]
