"""T1 as LangChain embeddings: any LangChain vector store then searches by thinking.

pip install "t1_jax[langchain]"
"""

from typing import Any

from langchain_core.embeddings import Embeddings

from t1_jax.retriever import T1


class T1Embeddings(Embeddings):
    """Embeds documents in one pass, and queries after a thought.

    ```python
    store = InMemoryVectorStore(T1Embeddings(T1.load("t1-smollm2-135m"), max_thought_tokens=24))
    ```

    Args:
        model: a loaded model.
        **query_options: keyword arguments of `T1.encode_query`, such as `max_thought_tokens`.
    """

    def __init__(self, model: T1, **query_options: Any) -> None:
        self.model = model
        self.query_options = query_options

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Unit vectors, one for each text."""
        return self.model.encode_document(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of a query, after the model's thought about it."""
        return self.model.encode_query(text, **self.query_options).tolist()
