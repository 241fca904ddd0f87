"""Closed-loop clients: each sends its next query when the last one is answered."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import httpx2
import numpy as np
from jaxtyping import Float

EQUAL_COSINE = 0.999
"""As in benchmarks of TEI and vLLM: bf16 in batches of other shapes stays above."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """A query of the load.

    Attributes:
        text: the query.
        ids: its prompt, for the peer.
        max_tokens: most tokens of its thought.
        is_short: whether its latency is that of short queries under load.
        expected: the offline embedding.
    """

    text: str
    ids: Sequence[int]
    max_tokens: int
    is_short: bool
    expected: Float[np.ndarray, " D"]


@dataclass(kw_only=True)
class Result:
    """What a run of the load measured.

    Attributes:
        seconds: its length.
        latencies: seconds of each answered query, short and long.
        lost: requests without an answer.
        wrong: answers whose embedding is not the offline one.
        turned_away: answers with status 429, which clients send again.
        resident_mib: memory of the server, in the course of time.
        cpu_seconds: CPU time of the server.
    """

    seconds: float
    latencies: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    lost: int = 0
    wrong: int = 0
    turned_away: int = 0
    resident_mib: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @property
    def answered(self) -> int:
        """Number of answers."""
        return len(self.latencies[True]) + len(self.latencies[False])

    def percentile(self, q: float, *, is_short: bool) -> float:
        """Latency in seconds."""
        values = self.latencies[is_short]
        return float(np.percentile(values, q)) if values else float("nan")


Ask = Callable[[httpx2.AsyncClient, Query], Awaitable[httpx2.Response]]


def run_load(
    url: str, ask: Ask, queries: Sequence[Query], *, clients: int, seconds: float, pid: int
) -> Result:
    """Sends queries for some time; every answer is compared with the offline one."""
    return asyncio.run(_run(url, ask, queries, clients, seconds, pid))


async def _run(
    url: str, ask: Ask, queries: Sequence[Query], clients: int, seconds: float, pid: int
) -> Result:
    result = Result(seconds=seconds)
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        own = [query for query in queries if query.is_short == (number % 4 == 0)]
        async with httpx2.AsyncClient(base_url=url, timeout=300) as http:
            turn = number
            while time.monotonic() < end:
                query = own[turn % len(own)]
                started = time.monotonic()
                try:
                    answer = await ask(http, query)
                except httpx2.HTTPError:
                    result.lost += 1
                    continue
                if answer.status_code == 429:
                    result.turned_away += 1
                    await asyncio.sleep(float(answer.headers["retry-after"]))
                    continue
                turn += clients
                if answer.status_code != 200:
                    result.lost += 1
                    continue
                result.latencies[query.is_short].append(time.monotonic() - started)
                body = answer.json()
                vector = np.asarray(body["embedding"] if "embedding" in body
                                    else body["data"][0]["embedding"])  # fmt: skip
                result.wrong += float(vector @ query.expected) < EQUAL_COSINE

    async def watch() -> None:
        while time.monotonic() < end:
            result.resident_mib.append(resident_mib(pid))
            await asyncio.sleep(max(seconds / 20, 0.5))

    before = cpu_seconds(pid)
    await asyncio.gather(watch(), *(client(number) for number in range(clients)))
    result.cpu_seconds = cpu_seconds(pid) - before
    return result


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, which other work on the machine changes little."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as file:
        (line,) = [line for line in file if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024
