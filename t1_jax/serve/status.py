"""The routes that say what a server is and does."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from t1_jax import __version__
from t1_jax.serve.metrics import CONTENT_TYPE
from t1_jax.serve.state import ServerState


async def info(request: Request) -> Response:
    """`GET /info`, as in text-embeddings-inference, with limits and index."""
    state: ServerState = request.app.state.server
    service = state.require_service()
    model, config, corpus = service.model, service.config, service.corpus
    index = None
    if corpus is not None:
        index = {
            "name": corpus.name,
            "kind": corpus.index.kind,
            "documents": len(corpus.index.ids),
            "ranking": corpus.default_ranking,
            "has_texts": bool(corpus.documents),
            "changed_on_disk": corpus.changed_on_disk,
        }
    return JSONResponse(
        {
            "model_id": service.name,
            "model_dtype": model.decoder.options.dtype,
            "model_type": {"embedding": {"pooling": "emb_token"}},
            "embedding_dimensions": model.embed_dim,
            "prompts": model.preset.name,
            "max_input_length": model.options.max_document_tokens,
            "max_query_length": model.options.max_query_tokens,
            "max_client_batch_size": config.max_inputs,
            "max_thought_tokens": config.max_thought_tokens,
            "max_thoughts": config.max_n,
            "index": index,
            "examples": [] if corpus is None else list(corpus.examples),
            "version": __version__,
        }
    )


async def health(request: Request) -> Response:
    """`GET /health`: 200 when it is ready, else 503."""
    state: ServerState = request.app.state.server
    status = state.status
    return JSONResponse(
        {"status": status}, status_code=200 if status == "ready" else 503,
        headers={} if status == "ready" else {"Retry-After": "5"},
    )  # fmt: skip


async def metrics(request: Request) -> Response:
    """`GET /metrics`, for Prometheus."""
    state: ServerState = request.app.state.server
    return Response(state.metrics.text(), media_type=CONTENT_TYPE)
