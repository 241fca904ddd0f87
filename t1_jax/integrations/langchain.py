"""T1 in LangChain: embeddings for any vector store, and a retriever over `t1 serve`.

pip install "t1_jax[langchain]"
"""

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from t1_jax.integrations.remote import RemoteT1
from t1_jax.retriever import T1


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
    """Searches the index of a service.

    ```python
    retriever = T1Retriever(service=RemoteT1("http://127.0.0.1:8080"), k=5)
    documents = retriever.invoke("why is the sky blue")
    ```

    Attributes:
        service: the service.
        k: documents per query.
        search_options: keyword arguments of `RemoteT1.search`, such as `think`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    service: RemoteT1
    k: int = 10
    search_options: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        hits = self.service.search(query, self.k, **self.search_options)
        return [
            Document(
                id=hit.id,
                page_content=hit.text,
                metadata={
                    "title": hit.title, "score": hit.score, "sentence": hit.sentence,
                    "path": hit.path, "line": hit.line,
                },
            )
            for hit in hits
        ]  # fmt: skip
