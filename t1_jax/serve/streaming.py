"""Thoughts as they are written: server-sent events.

Events: `token` (the new text of a thought, and its number of tokens), `result` at the end, or
`error`. Each carries one JSON object.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from t1_jax.serve.failures import RequestError
from t1_jax.serve.queries import QueryResult, ThinkOptions
from t1_jax.serve.service import Service

_KEEP_ALIVE_SECONDS = 10.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Finish = Callable[[QueryResult], Awaitable[dict[str, Any]]]
"""Makes the body of the event `result`."""


async def stream_query(
    service: Service,
    text: str,
    options: ThinkOptions,
    finish: Finish,
    *,
    thoughts: Sequence[str] | None = None,
    candidates: Sequence[Sequence[str]] | None = None,
) -> StreamingResponse:
    """An answer that sends the thoughts about a query as they are written, then what came of it.

    If the client goes away, or the call is cancelled before the first token, the thoughts end.

    Raises:
        RequestError: what is known to be wrong before the first token; later errors are events.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[int, Sequence[int]] | None] = asyncio.Queue()

    def on_tokens(sample: int, tokens: Sequence[int]) -> None:  # in the engine's thread
        loop.call_soon_threadsafe(arrived.put_nowait, (sample, tokens))

    task = asyncio.ensure_future(
        service.embed_queries(
            [text],
            options,
            thoughts=thoughts,
            candidates=candidates,
            on_tokens=on_tokens,
            field="query",
        )
    )
    task.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        first = await arrived.get()
    except asyncio.CancelledError:
        task.cancel()
        raise
    if first is None and (error := task.exception()) is not None:
        raise error

    async def events() -> AsyncIterator[bytes]:
        sent: dict[int, str] = {}
        item = first
        try:
            while item is not None:
                sample, tokens = item
                if delta := _delta(service, sent, sample, tokens, options.prefix):
                    yield _event("token", {"sample": sample, "text": delta, "tokens": len(tokens)})
                item = await _next(arrived)
                while item is _SILENCE:
                    yield b": still thinking\n\n"
                    item = await _next(arrived)
            (result,) = await task
            for thought in result.thoughts:  # what is cached, or ends within a character
                text = (options.prefix or "") + thought.text
                if rest := text.removeprefix(sent.get(thought.sample, "")):
                    count = thought.reasoning_tokens
                    yield _event("token", {"sample": thought.sample, "text": rest, "tokens": count})
            yield _event("result", await finish(result))
        except RequestError as error:
            yield _event("error", error.body)

    return _Events(events(), task)


class _Events(StreamingResponse):
    """A stream of events about a task, which ends with the answer even if that was never begun."""

    def __init__(self, events: AsyncIterator[bytes], task: "asyncio.Future[Any]") -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS)
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._task.cancel()


_SILENCE: Any = object()


async def _next(arrived: "asyncio.Queue[Any]") -> Any:
    try:
        return await asyncio.wait_for(arrived.get(), _KEEP_ALIVE_SECONDS)
    except TimeoutError:
        return _SILENCE


def _delta(
    service: Service, sent: dict[int, str], sample: int, tokens: Sequence[int], prefix: str | None
) -> str:
    """The text that is new; bytes of a character that is not complete wait for the next token."""
    tokenizer = service.model.tokenizer
    ends = {tokenizer.emb_token_id, *tokenizer.eos_ids}
    text = (prefix or "") + tokenizer.decode([token for token in tokens if token not in ends])
    text = text.rstrip("\N{REPLACEMENT CHARACTER}")
    before = sent.get(sample, "")
    if len(text) <= len(before):  # a thought that is tried again begins again
        return ""
    sent[sample] = text
    return text[len(before) :]


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
