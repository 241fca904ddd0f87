"""Reads the body of a request within limits of size and time."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from t1_jax.serve.config import ServerConfig
from t1_jax.serve.failures import RequestError, cancelled
from t1_jax.serve.schemas import parse_body

_Body = TypeVar("_Body", bound=BaseModel)


async def read_body(request: Request, schema: type[_Body]) -> _Body:
    """The body as an object of the schema.

    Raises:
        RequestError: 408 if the client takes too long, 413 if the body is too large, or as
            `parse_body`.
    """
    config: ServerConfig = request.app.state.server.config
    most = config.max_body_bytes
    too_large = RequestError(
        413, "too_large", f"the body exceeds {most:,} bytes", hint="send fewer texts at once"
    )
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(config.client_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise RequestError(
            408, "timeout", f"the body did not arrive within {config.client_seconds:g} s",
            hint="send it at once",
        ) from None  # fmt: skip
    except ClientDisconnect:
        raise cancelled() from None
    if len(body) > 100_000:  # a large body would hold up the others while it is parsed
        return await asyncio.to_thread(parse_body, schema, bytes(body))
    return parse_body(schema, bytes(body))
