"""The ASGI application."""

import contextlib
from collections.abc import AsyncIterator
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from t1_jax.serve.config import ServerConfig
from t1_jax.serve.failures import RequestError
from t1_jax.serve.middleware import Guard, on_http_error, on_request_error
from t1_jax.serve.routes import routes
from t1_jax.serve.state import Load, ServerState

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def build_app(config: ServerConfig, load: Load) -> Starlette:
    """The application; it begins to load when the server starts, and answers 503 meanwhile."""
    state = ServerState(config, load)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        state.start()
        yield
        await state.stop()

    middleware = [Middleware(Guard, config=config, metrics=state.metrics)]
    if config.cors_origins:  # outside of the guard, as a preflight request has no key
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
        middleware.insert(0, cors)
    app = Starlette(
        routes=[*routes(), *(Route(path, _page, methods=["GET"]) for path in _PAGE)],
        middleware=middleware,
        exception_handlers={HTTPException: on_http_error, RequestError: on_request_error},
        lifespan=lifespan,
    )
    app.state.server = state
    return app


async def _page(request: Request) -> Response:
    name, media_type = _PAGE[request.url.path]
    content = resources.files("t1_jax.serve").joinpath("page", name).read_bytes()
    return Response(content, media_type=media_type)
