"""A T1 that runs elsewhere, behind `t1 serve`: the same methods, over HTTP."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, RetryableError
from t1_jax.retrieval import Document, Hit, Hits, Snippet, SourceLocation


class RemoteT1:
    """A client of `t1 serve`.

    ```python
    model = RemoteT1("http://127.0.0.1:8080")
    for hit in model.search("why is the sky blue"):
        print(hit.path, hit.sentence)
    ```

    Args:
        url: address of the service.
        api_key: one of its keys, if it has any.
        timeout: seconds for an answer.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 120.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is not an address", hint="use http://HOST:PORT")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def __repr__(self) -> str:
        return f"RemoteT1({self.url!r})"

    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        think: bool = True,
        thoughts: Sequence[str] | None = None,
    ) -> Float[np.ndarray, "*B D"]:
        """Unit vectors of queries after thoughts about them; see `T1.encode_query`.

        Raises:
            ConfigError: the service rejects the request.
            RetryableError: the service cannot be reached, or has too much to do.
        """
        options: dict[str, Any] = {"model": "t1-query", "n": n}
        if not think:
            options["think"] = "off"
        elif max_thought_tokens is not None:
            options["think"] = max_thought_tokens
        if thoughts is not None:
            options["thoughts"] = list(thoughts)
        return self._embed(texts, options)

    def encode_document(self, texts: str | Sequence[str]) -> Float[np.ndarray, "*B D"]:
        """Unit vectors of documents; see `T1.encode_document`. Raises: as `encode_query`."""
        return self._embed(texts, {"model": "t1-doc"})

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        think: bool | Literal["auto"] = True,
        thoughts: str | None = None,
    ) -> Hits:
        """The best documents of the service's index; see `Searcher.search`.

        Args:
            query: the query.
            k: number of documents.
            n: number of thoughts.
            max_thought_tokens: most tokens of a thought; by default the service's.
            think: False embeds the query alone; with `auto` a thought ends once its embedding has
                settled.
            thoughts: a user-supplied thought instead of a sampled one.

        Raises: as `encode_query`.
        """
        body: dict[str, Any] = {"query": query, "k": k, "n": n}
        if think is not True:
            body["think"] = think or "off"
        elif max_thought_tokens is not None:
            body["think"] = max_thought_tokens
        if thoughts is not None:
            body["thoughts"] = [thoughts]
        (result,) = self._post("/v1/search", body)["results"]
        texts = [thought["text"] for thought in result["thoughts"]]
        return Hits(
            query=query,
            ranking=result["ranking"],
            thoughts=tuple(texts if thoughts is None else [thoughts]),
            hits=tuple(_hit(fields) for fields in result["hits"]),
        )

    def _embed(self, texts: str | Sequence[str], options: dict[str, Any]) -> Any:
        given = [texts] if isinstance(texts, str) else list(texts)
        body = {"input": given, "encoding_format": "base64"} | options
        data = self._post("/v1/embeddings", body)["data"]
        vectors = np.stack(
            [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in data]
        ).astype(np.float32)
        return vectors[0] if isinstance(texts, str) else vectors

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), self._headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                problem = _error_of(error.read())
            message = f"{self.url}{path}: {problem.get('message') or error.reason}"
            hint = problem.get("hint")
            if error.code in (429, 503):
                raise RetryableError(message, hint=hint) from error
            raise ConfigError(message, hint=hint) from error
        except OSError as error:
            raise RetryableError(
                f"{self.url} cannot be reached: {error}", hint="check that the service runs"
            ) from error


def _hit(fields: dict[str, Any]) -> Hit:
    location = None
    if fields["path"] is not None:
        location = SourceLocation(path=Path(fields["path"]), line=fields["line"])
    document = snippet = None
    if fields["text"] or fields["title"]:
        document = Document(id=fields["id"], title=fields["title"], text=fields["text"])
        snippet = Snippet(text=fields["sentence"], location=location)
    return Hit(
        id=fields["id"],
        score=fields["score"],
        bm25=fields["bm25"],
        cosine=fields["cosine"],
        document=document,
        snippet=snippet,
    )


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        return json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return {}
