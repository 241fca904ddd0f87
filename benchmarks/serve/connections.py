"""`python -m benchmarks.serve.connections`: opens thousands of connections and says what happens.

A server with a limit of connections answers those beyond it with 503 and closes them, closes those
that send nothing, keeps its memory, and answers again afterwards.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import urlopen

_PORT = 8533
_AT_ONCE = 200
_READ_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Flood:
    """What became of connections that were opened and sent nothing.

    Attributes:
        opened: connections that the server accepted.
        turned_away: those that it answered with 503 and closed at once.
        held: those that stayed open.
        refused: those that could not be opened, or were closed without an answer.
    """

    opened: int
    turned_away: int
    held: int
    refused: int


async def flood(
    host: str,
    port: int,
    count: int,
    *,
    patience: float = 5.0,
    meanwhile: Callable[[], None] = lambda: None,
) -> Flood:
    """Opens `count` connections, sends nothing, and closes them all at the end.

    Args:
        host: of the server.
        port: of the server.
        count: connections.
        patience: seconds after which a silent connection counts as held.
        meanwhile: called while all connections are open.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> asyncio.StreamReader | None:
        async with gate:
            try:
                reader, writer = await asyncio.open_connection(host, port)
            except OSError:
                return None
        writers.append(writer)
        return reader

    async def outcome(reader: asyncio.StreamReader | None) -> str:
        if reader is None:
            return "refused"
        try:
            async with asyncio.timeout(patience):
                answer = await reader.read(_READ_BYTES)
        except TimeoutError:
            return "held"
        except OSError:
            return "refused"
        return "turned_away" if answer.startswith(b"HTTP/1.1 503") else "refused"

    try:
        readers = await asyncio.gather(*(connect() for _ in range(count)))
        outcomes = await asyncio.gather(*map(outcome, readers))
        await asyncio.to_thread(meanwhile)
    finally:
        for writer in writers:
            writer.close()
    return Flood(
        opened=len(writers),
        turned_away=outcomes.count("turned_away"),
        held=outcomes.count("held"),
        refused=outcomes.count("refused"),
    )


def main() -> int:
    """See `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve.connections", description=__doc__
    )
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--model", "-m", default="t1-smollm2-135m")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(arguments.connections, most - 500)
    command = [sys.executable, "-c", "from t1_jax.cli.main import main; main()", "serve",
               "--port", str(_PORT), "--model", arguments.model, "--no-thought-cache"]  # fmt: skip
    server = subprocess.Popen(command)
    try:
        while _health() is None:
            if server.poll() is not None:
                return 1
            time.sleep(0.5)
        memory = {"before_mib": _resident_mib(server.pid)}

        def look() -> None:
            memory["during_mib"] = _resident_mib(server.pid)

        started = time.monotonic()
        result = asyncio.run(flood("127.0.0.1", _PORT, count, meanwhile=look))
        seconds = time.monotonic() - started
        while _health() is None:
            time.sleep(0.05)
        recovered = time.monotonic() - started - seconds
        memory["after_mib"] = _resident_mib(server.pid)
        record = {"asked_for": count, **asdict(result), "seconds": round(seconds, 1),
                  "answers_again_after_s": round(recovered, 2), **memory}  # fmt: skip
        sys.stdout.write(json.dumps(record, indent=1) + "\n")
    finally:
        server.terminate()
        server.wait(60)
    return 0


def _health() -> str | None:
    """The answer of `/health`; None if there is none, or another than ready."""
    try:
        with urlopen(f"http://127.0.0.1:{_PORT}/health", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def _resident_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


if __name__ == "__main__":
    sys.exit(main())
