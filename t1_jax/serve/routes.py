"""The routes that answer with JSON: OpenAI's, those of text-embeddings-inference, and search."""

import asyncio
import functools
from collections.abc import Awaitable, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from t1_jax.errors import T1Error
from t1_jax.retriever import OutputFormat
from t1_jax.serve import schemas
from t1_jax.serve.answers import embedding_body, hit_body, query_body, usage_body
from t1_jax.serve.body import read_body
from t1_jax.serve.candidates import candidate_titles
from t1_jax.serve.failures import RequestError, cancelled, from_t1_error, invalid
from t1_jax.serve.queries import QueryResult, ThinkOptions
from t1_jax.serve.ranking import DocumentFilter, SearchOptions
from t1_jax.serve.service import Service
from t1_jax.serve.state import ServerState
from t1_jax.serve.status import health, info, metrics
from t1_jax.serve.streaming import stream_query

QUERY, QUERY_NO_THINK, DOCUMENT = "t1-query", "t1-query-nothink", "t1-doc"
"""Names of the model for clients that have no field for the side of a text."""


def routes() -> list[Route]:
    """All routes but those of the page."""
    return [
        Route("/v1/embeddings", _embeddings, methods=["POST"]),
        Route("/v1/models", _models, methods=["GET"]),
        Route("/v1/search", _search, methods=["POST"]),
        Route("/v1/think", _think, methods=["POST"]),
        Route("/embed", _embed, methods=["POST"]),
        Route("/rerank", _rerank, methods=["POST"]),
        Route("/similarity", _similarity, methods=["POST"]),
        Route("/tokenize", _tokenize, methods=["POST"]),
        Route("/decode", _decode, methods=["POST"]),
        Route("/info", info, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


async def _embeddings(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.EmbeddingsRequest)
    texts = _texts(service, body.input)
    side, think = _side_of(service, body)
    _check_dimensions(service, body.dimensions)
    data: list[dict[str, Any]] = [
        {"object": "embedding", "index": i, "embedding": None} for i in range(len(texts))
    ]
    if side == "query":
        options = _options(service, body, think=think)
        results = await _embedded(
            request, service.embed_queries(texts, options, thoughts=_given(body, len(texts)))
        )
        vectors = np.stack([result.vector for result in results])
        for item, result in zip(data, results, strict=True):
            item |= query_body(result, body.thought_prefix)
        usage = usage_body(results)
    else:
        _reject_thinking(body)
        deadline = service.deadline(body.deadline)
        documents = await _embedded(request, service.embed_documents(texts, deadline=deadline))
        vectors = documents.vectors
        for item, truncated in zip(data, documents.truncated, strict=True):
            item["truncated"] = truncated
        count = sum(documents.tokens)
        usage = {"prompt_tokens": count, "thought_tokens": 0, "total_tokens": count}
    vectors = _in_form(vectors, body.dimensions)
    for item, vector in zip(data, vectors, strict=True):
        item["embedding"] = embedding_body(vector, body.encoding_format)
    return JSONResponse({"object": "list", "data": data, "model": body.model, "usage": usage})


async def _models(request: Request) -> Response:
    service = _service(request)
    names = (service.name, QUERY, QUERY_NO_THINK, DOCUMENT)
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "t1_jax"} for name in names]
    return JSONResponse({"object": "list", "data": models})


async def _search(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.SearchRequest)
    texts = _texts(service, body.query, field="query")
    options = _options(service, body)
    if body.stream and len(texts) > 1:
        raise invalid("only one query can be streamed", field="stream", hint="send one query")
    given, titles = _given(body, len(texts)), None
    if body.candidates and body.think == "off":
        raise invalid(
            "candidates are shown to a thought, and think is off", field="candidates",
            hint="leave one of them out",
        )  # fmt: skip
    searched = await service.search_options(
        k=body.k,
        ranking=body.ranking,
        fusion=body.fusion,
        verify=body.verify,
        only=DocumentFilter(
            ids=frozenset(body.filter.ids),
            exclude=frozenset(body.filter.exclude),
            path=body.filter.path,
        ),
        deadline=options.deadline,
    )
    if body.candidates:
        first_pass = candidate_titles(service, texts, body.candidates, options, searched.excluded)
        titles = await _embedded(request, first_pass)
    search = functools.partial(_search_bodies, service, body, texts, searched)
    if body.stream:
        (query,) = texts

        async def finish(result: QueryResult) -> dict[str, Any]:
            (found,) = await search([result])
            return found

        stream = stream_query(service, query, options, finish, thoughts=given, candidates=titles)
        return await _embedded(request, stream)
    results = await _embedded(
        request,
        service.embed_queries(texts, options, thoughts=given, candidates=titles, field="query"),
    )
    bodies = await _embedded(request, search(results))
    return JSONResponse({"results": bodies, "usage": usage_body(results)})


async def _search_bodies(
    service: Service,
    body: schemas.SearchRequest,
    texts: Sequence[str],
    options: SearchOptions,
    results: Sequence[QueryResult],
) -> list[dict[str, Any]]:
    """The thoughts about each query and what they found."""
    prefix = body.thought_prefix or ""
    sampled = [[prefix + thought.text for thought in result.thoughts] for result in results]
    thoughts = sampled if body.thoughts is None else [[thought] for thought in body.thoughts]
    hits = await service.search(texts, results, options, thoughts=thoughts)
    return [
        {
            "query": text,
            "ranking": options.ranking,
            **query_body(result, body.thought_prefix),
            "hits": [
                hit_body(rank, hit, return_text=body.return_text)
                for rank, hit in enumerate(hits_of_query, 1)
            ],
        }
        for text, result, hits_of_query in zip(texts, results, hits, strict=True)
    ]


async def _think(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.ThinkRequest)
    options = _options(service, body)
    if options.max_tokens == 0 or body.thoughts is not None:
        raise invalid(
            "this route thinks, so think cannot be off and thoughts cannot be given",
            field="think",
            hint="use /v1/embeddings",
        )
    if body.stream:

        async def finish(result: QueryResult) -> dict[str, Any]:
            return _think_body(result, body.thought_prefix)

        return await _embedded(request, stream_query(service, body.query, options, finish))
    (result,) = await _embedded(
        request, service.embed_queries([body.query], options, field="query")
    )
    return JSONResponse(_think_body(result, body.thought_prefix))


def _think_body(result: QueryResult, prefix: str | None) -> dict[str, Any]:
    """The thoughts about a query with their mean vector."""
    return {
        **query_body(result, prefix),
        "embedding": embedding_body(result.vector, "float"),
        "usage": usage_body([result]),
    }


async def _embed(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.EmbedRequest)
    texts = _texts(service, body.inputs, field="inputs")
    _check_dimensions(service, body.dimensions)
    if body.prompt_name == "query":
        options = service.think_options()
        results = await _embedded(
            request,
            service.embed_queries(texts, options, field="inputs", truncate=body.truncate),
        )
        vectors = np.stack([result.vector for result in results])
    else:
        documents = await _embedded(
            request,
            service.embed_documents(
                texts, deadline=service.deadline(), field="inputs", truncate=body.truncate
            ),
        )
        vectors = documents.vectors
    vectors = _in_form(vectors, body.dimensions, normalize=body.normalize)
    return JSONResponse(vectors.astype(float).tolist())


async def _rerank(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.RerankRequest)
    texts = _texts(service, body.texts, field="texts")
    scores = await _scores(
        request, service, body.query, texts, service.think_options(think=body.think),
        fields=("query", "texts"), truncate=body.truncate,
    )  # fmt: skip
    if not body.raw_scores:
        scores = 1 / (1 + np.exp(-scores))
    order = sorted(range(len(texts)), key=lambda i: (-scores[i], i))
    ranked = [{"index": i, "score": float(scores[i])} for i in order]
    if body.return_text:
        ranked = [{**item, "text": texts[item["index"]]} for item in ranked]
    return JSONResponse(ranked)


async def _similarity(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.SimilarityRequest)
    texts = _texts(service, body.inputs.sentences, field="inputs.sentences")
    parameters = body.parameters or schemas.SimilarityParameters()
    scores = await _scores(
        request, service, body.inputs.source_sentence, texts,
        service.think_options(think=body.think),
        fields=("inputs.source_sentence", "inputs.sentences"), truncate=parameters.truncate,
    )  # fmt: skip
    return JSONResponse(scores.astype(float).tolist())


async def _scores(
    request: Request,
    service: Service,
    query: str,
    texts: Sequence[str],
    options: ThinkOptions,
    *,
    fields: tuple[str, str],
    truncate: bool | None,
) -> np.ndarray:
    """The cosine of a query, after a thought, with each text."""

    async def both() -> np.ndarray:
        documents = asyncio.ensure_future(
            service.embed_documents(
                texts, deadline=options.deadline, field=fields[1], truncate=truncate
            )
        )
        found = asyncio.ensure_future(
            service.embed_queries([query], options, field=fields[0], truncate=truncate)
        )
        try:
            await asyncio.gather(documents, found)
        finally:  # if one fails, the other is not wanted
            documents.cancel()
            found.cancel()
        return documents.result().vectors @ found.result()[0].vector

    return await _embedded(request, both())


async def _tokenize(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.TokenizeRequest)
    texts = _texts(service, body.inputs, field="inputs")
    tokenizer = service.model.tokenizer.tokenizer
    encodings = await asyncio.to_thread(
        tokenizer.encode_batch, texts, add_special_tokens=body.add_special_tokens
    )
    return JSONResponse(
        [
            [
                {"id": id, "text": token, "special": bool(special), "start": start, "stop": stop}
                for id, token, special, (start, stop) in zip(
                    encoding.ids,
                    encoding.tokens,
                    encoding.special_tokens_mask,
                    encoding.offsets,
                    strict=True,
                )
            ]
            for encoding in encodings
        ]
    )


async def _decode(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, schemas.DecodeRequest)
    groups = [ids if isinstance(ids, list) else [ids] for ids in body.ids]
    if body.ids and not isinstance(body.ids[0], list):
        groups = [[token for group in groups for token in group]]
    tokenizer = service.model.tokenizer.tokenizer
    size = service.model.tokenizer.vocab_size
    for group in groups:
        for token in group:
            if not 0 <= token < size:
                raise invalid(
                    f"{token} is not a token id", field="ids", hint=f"send 0 to {size - 1}"
                )
    return JSONResponse(
        [tokenizer.decode(ids, skip_special_tokens=body.skip_special_tokens) for ids in groups]
    )


def _service(request: Request) -> Service:
    state: ServerState = request.app.state.server
    return state.require_service()


def _texts(service: Service, given: str | Sequence[Any], *, field: str = "input") -> list[str]:
    """The texts of a request.

    Raises:
        RequestError: 400 for none, 413 for too many, 422 for token ids.
    """
    texts = [given] if isinstance(given, str) else list(given)
    if not texts:
        raise RequestError(400, "empty", f"{field} is empty", field=field, hint="send a text")
    if not all(isinstance(text, str) for text in texts):
        raise invalid(
            f"{field} has token ids, which are those of another tokenizer",
            field=field,
            hint="send texts (LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)",
        )
    most = service.config.max_inputs
    if len(texts) > most:
        raise RequestError(
            413, "too_many", f"{len(texts)} texts, and this server takes {most}", field=field,
            hint=f"send at most {most} in one request",
        )  # fmt: skip
    return texts


def _side_of(service: Service, body: schemas.EmbeddingsRequest) -> tuple[str, str | int | None]:
    """Query or document, and how a query is thought about."""
    by_name = {QUERY: "query", QUERY_NO_THINK: "query", DOCUMENT: "document"}
    if body.model not in by_name and body.model != service.name:
        raise RequestError(
            404, "model_not_found", f"unknown model {body.model!r}", field="model",
            hint=f"use {QUERY}, {QUERY_NO_THINK} or {DOCUMENT}",
        )  # fmt: skip
    side = by_name.get(body.model)
    if side is not None and body.input_type not in (None, side):
        raise invalid(
            f"the model {body.model} embeds a {side}, and input_type is {body.input_type}",
            field="input_type", hint="leave it out",
        )  # fmt: skip
    side = side or body.input_type
    if side is None:
        raise invalid(
            "T1 embeds queries and documents differently, and the request does not say which",
            field="input_type",
            hint=f"send input_type, or one of the models {QUERY} and {DOCUMENT}",
        )
    think = body.think
    if body.model == QUERY_NO_THINK:
        if think not in (None, "off"):
            raise invalid(
                f"the model {QUERY_NO_THINK} does not think", field="think", hint=f"use {QUERY}"
            )
        think = "off"
    return side, think


def _options(
    service: Service, body: schemas.Thinking, *, think: str | int | None = None
) -> ThinkOptions:
    return service.think_options(
        think=body.think if think is None else think,
        n=body.n,
        seed=body.seed,
        prefix=body.thought_prefix,
        deadline=body.deadline,
    )


def _given(body: schemas.Thinking, queries: int) -> Sequence[str] | None:
    """The thoughts that the client supplies, one for each query."""
    if body.thoughts is None:
        return None
    if len(body.thoughts) != queries:
        raise invalid(
            f"{queries} queries but {len(body.thoughts)} thoughts", field="thoughts",
            hint="send one thought for each query",
        )  # fmt: skip
    if body.n > 1 or body.think is not None or body.thought_prefix is not None:
        raise invalid(
            "thoughts replace thinking, so think, n and thought_prefix would do nothing",
            field="thoughts", hint="leave them out",
        )  # fmt: skip
    return body.thoughts


def _reject_thinking(body: schemas.EmbeddingsRequest) -> None:
    given = body.model_fields_set & set(schemas.Thinking.model_fields) - {"deadline"}
    if given:
        field = sorted(given)[0]
        raise invalid(
            f"documents are embedded without a thought, so {field} would do nothing", field=field,
            hint="leave it out",
        )  # fmt: skip


def _check_dimensions(service: Service, dimensions: int | None) -> None:
    most = service.model.embed_dim
    if dimensions is not None and dimensions > most:
        raise invalid(
            f"dimensions is {dimensions}, and the model has {most}", field="dimensions",
            hint=f"send at most {most}",
        )  # fmt: skip


def _in_form(vectors: np.ndarray, dimensions: int | None, *, normalize: bool = True) -> np.ndarray:
    try:
        form = OutputFormat(truncate_dim=dimensions, normalize_embeddings=normalize)
        return form.apply(vectors)
    except T1Error as error:
        raise from_t1_error(error, field="dimensions") from error


async def _embedded(request: Request, work: Awaitable[Any]) -> Any:
    """The result of work on the engine, which is cancelled when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise cancelled()
        return task.result()
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Returns once the client is gone; the body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(0)
