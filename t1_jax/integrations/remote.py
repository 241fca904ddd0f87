"""A T1 that runs elsewhere, behind `t1 serve`: the same methods, over HTTP."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError, RetryableError, T1Error
from t1_jax.retrieval import Document, Hit, Hits, Ranking, Snippet, SourceLocation


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
        seed: int = 0,
        max_thought_tokens: int | None = None,
        think: bool | Literal["auto"] = True,
        thoughts: Sequence[str] | None = None,
    ) -> Float[np.ndarray, "*B D"]:
        """Unit vectors of queries after thoughts about them; see `T1.encode_query`.

        Args:
            texts: one query (gives one embedding, [D]) or several ([B, D]).
            n: number of thoughts about each query.
            seed: of several thoughts; one is greedy.
            max_thought_tokens: most tokens of a thought; by default the service's.
            think: False embeds the query alone; with `auto` a thought ends once its embedding has
                settled.
            thoughts: user-supplied thoughts instead of sampled ones, one for each query.

        Raises:
            ConfigError: options that exclude each other, or the service rejects the request.
            DataError: an empty text.
            RetryableError: the service cannot be reached, has too much to do, or failed.
        """
        options = {"model": "t1-query"} | _thinking(n, seed, max_thought_tokens, think)
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
        seed: int = 0,
        max_thought_tokens: int | None = None,
        think: bool | Literal["auto"] = True,
        thoughts: str | None = None,
        candidates: int = 0,
        verify: int = 0,
        ranking: Ranking | None = None,
    ) -> Hits:
        """The best documents of the service's index; see `Searcher.search`.

        Args:
            query: the query.
            k: number of documents.
            n: as in `encode_query`.
            seed: as in `encode_query`.
            max_thought_tokens: as in `encode_query`.
            think: as in `encode_query`.
            thoughts: a user-supplied thought instead of a sampled one.
            candidates: number of documents whose titles the thought sees.
            verify: number of nearest documents that are reordered by how likely their titles are
                as thoughts.
            ranking: `dense`, `hybrid` or `bm25`; by default what suits the index.

        Raises: as `encode_query`.
        """
        body: dict[str, Any] = {"query": query, "k": k}
        body |= _thinking(n, seed, max_thought_tokens, think)
        body |= {"candidates": candidates, "verify": verify, "ranking": ranking}
        if thoughts is not None:
            body["thoughts"] = [thoughts]
        (result,) = self._post("/v1/search", body, "results")
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
        data = self._post("/v1/embeddings", body, "data")
        vectors = np.stack(
            [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in data]
        ).astype(np.float32)
        return vectors[0] if isinstance(texts, str) else vectors

    def _post(self, path: str, body: Mapping[str, Any], part: str) -> Any:
        """A part of the answer to a request."""
        url = self.url + path
        request = urllib.request.Request(url, json.dumps(body).encode(), self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return json.load(answer)[part]
        except urllib.error.HTTPError as error:
            with error:
                raise _failure(url, error) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{url}: the answer is not that of a T1", hint=_NOT_T1) from error
        except (OSError, http.client.HTTPException) as error:
            raise RetryableError(
                f"{self.url} cannot be reached: {error}", hint="check that the service runs"
            ) from error


_NOT_T1 = "check that `t1 serve` listens at this address"
_EMPTY, _NO_KEY, _TIMEOUT, _BACKEND, _TOO_MANY = 400, 401, 408, 424, 429
"""Statuses of the service; see docs/serving.md."""


def _thinking(
    n: int, seed: int, max_thought_tokens: int | None, think: bool | Literal["auto"]
) -> dict[str, Any]:
    """The fields of a request that say how to think.

    Raises:
        ConfigError: a limit for a thought that has another, or none.
    """
    if think is True:
        return {"n": n, "seed": seed, "think": max_thought_tokens}
    if max_thought_tokens is not None:
        raise ConfigError(
            f"max_thought_tokens would do nothing with think={think!r}",
            hint="leave one of them out",
        )
    return {"n": n, "seed": seed, "think": think or "off"}


def _failure(url: str, error: urllib.error.HTTPError) -> T1Error:
    """What the service says, as the error that `T1` would raise, or as one to try again."""
    try:
        problem = json.loads(error.read())["error"]
        message, hint = str(problem["message"]), str(problem["hint"])
    except (ValueError, TypeError, KeyError):
        message, hint = f"{error.code} {error.reason}", _NOT_T1
    if error.code == _NO_KEY:
        hint = "give one of the service's keys: RemoteT1(url, api_key=KEY)"
    if error.code in (_TIMEOUT, _BACKEND, _TOO_MANY) or error.code >= 500:
        return RetryableError(f"{url}: {message}", hint=hint)
    kind = DataError if error.code == _EMPTY else ConfigError
    return kind(f"{url}: {message}", hint=hint)


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
