"""What a server allows: addresses, keys and limits."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import ConfigError, DataError

API_KEY_VARIABLE = "T1_API_KEY"


@dataclass(frozen=True, kw_only=True, repr=False)
class ServerConfig:
    """Settings of a server; requests may ask for less, never for more.

    Attributes:
        host: address to listen on; the default is reachable from this machine only.
        port: TCP port; 0 takes a free one.
        api_keys: a request needs one of them; empty lets everyone in.
        cors_origins: other web origins whose pages may call the service; none by default.
        log_texts: whether queries are written to the log.
        max_thought_tokens: most tokens of a thought; a request may ask for less.
        max_n: most thoughts per query.
        temperature: at which several thoughts are sampled; one thought is greedy.
        rows: thoughts that are decoded at once.
        chunk_steps: decoding steps between two looks at the queue; 0 takes 1 on a CPU and 8 on an
            accelerator.
        turn_tokens: tokens of documents that are encoded between two chunks of thinking, and of
            prompts that are prefilled; 0 takes 256 on a CPU and 8,192 on an accelerator.
        max_waiting_tokens: tokens of texts and thoughts that may wait; more get status 429.
        max_inputs: texts per request.
        max_k: documents per query.
        max_body_bytes: size of a request.
        reject_long_texts: whether a text that is too long is an error; else it is truncated, and
            the answer says so. `truncate` of a request in TEI's form decides instead.
        deadline_seconds: longest time of a request; its thoughts then end where they are.
        client_seconds: time within which a client must have sent a request.
        max_connections: open connections; more are closed.
        drain_seconds: time that accepted requests have at shutdown.

    Raises:
        ConfigError: a limit below its minimum.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    log_texts: bool = False
    max_thought_tokens: int = 64
    max_n: int = 8
    temperature: float = 0.7
    rows: int = 16
    chunk_steps: int = 0
    turn_tokens: int = 0
    max_waiting_tokens: int = 100_000
    max_inputs: int = 1024
    max_k: int = 1000
    max_body_bytes: int = 2_000_000
    reject_long_texts: bool = False
    deadline_seconds: float = 120.0
    client_seconds: float = 20.0
    max_connections: int = 1024
    drain_seconds: float = 25.0

    def __post_init__(self) -> None:
        for name in (
            "max_thought_tokens", "max_n", "rows", "max_waiting_tokens",
            "max_inputs", "max_k", "max_body_bytes", "max_connections",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("deadline_seconds", "client_seconds", "drain_seconds", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        for name in ("port", "chunk_steps", "turn_tokens"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.max_n > self.rows:
            raise ConfigError(
                f"max_n ({self.max_n}) exceeds rows ({self.rows}): the thoughts about a query are "
                "decoded together",
                hint="raise rows, or lower max_n",
            )

    def __repr__(self) -> str:
        return f"ServerConfig(host={self.host!r}, port={self.port})"  # never the keys

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("127.0.0.1", "::1", "localhost")


def read_api_keys(file: Path | None) -> tuple[str, ...]:
    """Keys of a file, one a line, and of the environment variable `T1_API_KEY`.

    Blank lines and lines that begin with `#` are skipped.

    Raises:
        DataError: the file has no key, or one of less than 16 characters, or one with spaces.
    """
    keys = []
    if file is not None:
        lines = map(str.strip, file.read_text(encoding="utf-8").splitlines())
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise DataError(f"{file} has no key", hint="write one key a line")
    if from_environment := os.environ.get(API_KEY_VARIABLE):
        keys.append(from_environment)
    for key in keys:
        if len(key) < 16 or not key.isascii() or " " in key:
            raise DataError(
                "an API key must have 16 or more ASCII characters and no space",
                hint="make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
    return tuple(keys)
