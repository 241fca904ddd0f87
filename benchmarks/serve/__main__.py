"""`python -m benchmarks.serve`: the service under mixed load, beside a plain transformers loop.

32 clients, a quarter of them with short queries (thoughts of up to 4 tokens), the others with
thoughts of up to 64. Every answer is compared with the offline one. `--seconds 600 --no-peer` is
the soak test.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from benchmarks.serve.load import Query, Result, run_load
from t1_jax.files import write_atomically
from t1_jax.generate import SamplingParams
from t1_jax.hub import cache_folder, open_collection
from t1_jax.retriever import T1
from t1_jax.text import tokenize_queries

SHORT, LONG = 4, (16, 32, 64)
_PORT = 8531


def main() -> int:
    """See `--help`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--queries", type=int, default=64, help="distinct queries")
    parser.add_argument("--no-peer", action="store_true", help="measure the service only")
    parser.add_argument("--torch-python", default=".venv311/bin/python")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/serve.json"))
    arguments = parser.parse_args()
    model = T1.load()
    queries = _queries(model, arguments.queries)
    record: dict[str, Any] = {"clients": arguments.clients, "seconds": arguments.seconds}
    with _server([sys.executable, "-c", "from t1_jax.cli.main import main; main()", "serve",
                  "--port", str(_PORT), "--no-thought-cache"]) as (url, pid):  # fmt: skip
        record["first_token_ms"] = _first_token_ms(url, queries)
        record["t1_jax"] = _measured(url, _ask_t1, queries, arguments, pid)
    torch_python = shutil.which(arguments.torch_python)
    if not arguments.no_peer and torch_python is not None:
        folder = cache_folder() / "bench" / "t1-smollm2-135m-bfloat16"
        if not (folder / "config.json").exists():
            model.save_pretrained(folder)
        tokenizer = model.tokenizer
        stop = {"emb": tokenizer.emb_token_id, "eos": sorted(tokenizer.eos_ids)}

        async def ask(http: httpx2.AsyncClient, query: Query) -> httpx2.Response:
            body = {"ids": list(query.ids), "max_new_tokens": query.max_tokens} | stop
            return await http.post("/", json=body)

        command = [torch_python, "-m", "benchmarks.serve.peer", str(folder), str(_PORT + 1)]
        with _server(command, port=_PORT + 1) as (url, pid):
            record["peer"] = _measured(url, ask, queries, arguments, pid)
    write_atomically(arguments.output, json.dumps(record, indent=1))
    _print(record)
    return 0


def _queries(model: T1, count: int) -> list[Query]:
    """Distinct queries of cwe with their offline answers; each has one limit."""
    collection = open_collection("cwe", "test")
    texts = list(dict.fromkeys(query.text for query in collection.queries))[:count]
    limits = [SHORT if i % 4 == 0 else LONG[i % 3] for i in range(len(texts))]
    prompts = tokenize_queries(
        model.tokenizer, model.preset, texts, max_tokens=model.options.max_query_tokens
    )
    vectors: dict[int, np.ndarray] = {}
    for limit in sorted(set(limits)):
        chosen = [i for i, own in enumerate(limits) if own == limit]
        found = model.encode_query(
            [texts[i] for i in chosen], max_thought_tokens=limit,
            sampling=SamplingParams(temperature=0.0),
        )  # fmt: skip
        vectors |= dict(zip(chosen, found, strict=True))
    return [
        Query(
            text=texts[i],
            ids=prompts[i].ids.tolist(),
            max_tokens=limits[i],
            is_short=limits[i] == SHORT,
            expected=vectors[i],
        )
        for i in range(len(texts))
    ]


async def _ask_t1(http: httpx2.AsyncClient, query: Query) -> httpx2.Response:
    body = {"input": query.text, "model": "t1-query", "think": query.max_tokens}
    return await http.post("/v1/embeddings", json=body)


@contextlib.contextmanager
def _server(command: Sequence[str], port: int = _PORT) -> Iterator[tuple[str, int]]:
    """Starts a server and waits until it answers."""
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while True:
                if process.poll() is not None:
                    raise SystemExit(f"{command} ended with status {process.returncode}")
                with contextlib.suppress(httpx2.HTTPError):
                    if httpx2.get(f"{url}/health", timeout=5).status_code == 200:
                        break
                time.sleep(0.5)
            yield url, process.pid
        finally:
            process.terminate()


def _first_token_ms(url: str, queries: Sequence[Query]) -> list[float]:
    """Time to the first event with text on an idle server, query by query."""
    found = []
    with httpx2.Client(base_url=url, timeout=60) as http:
        for query in queries[:8]:
            started = time.monotonic()
            body = {"query": query.text, "think": 64}
            with http.stream("POST", "/v1/think", json=body) as answer:
                for line in answer.iter_lines():
                    if line.startswith("event: token"):
                        found.append(1000 * (time.monotonic() - started))
                        break
            time.sleep(1)  # the abandoned thought ends meanwhile
    return found


def _measured(
    url: str, ask: Any, queries: Sequence[Query], arguments: argparse.Namespace, pid: int
) -> dict[str, Any]:
    run_load(url, ask, queries, clients=4, seconds=5, pid=pid)  # warm-up
    result: Result = run_load(
        url, ask, queries, clients=arguments.clients, seconds=arguments.seconds, pid=pid
    )
    return {
        "answers_per_second": result.answered / result.seconds,
        "short_p50": result.percentile(50, is_short=True),
        "short_p95": result.percentile(95, is_short=True),
        "long_p50": result.percentile(50, is_short=False),
        "long_p95": result.percentile(95, is_short=False),
        "cpu_seconds_per_answer": result.cpu_seconds / max(result.answered, 1),
        "answered": result.answered,
        "lost": result.lost,
        "wrong": result.wrong,
        "turned_away": result.turned_away,
        "resident_mib": [round(value) for value in result.resident_mib],
    }


def _print(record: dict[str, Any]) -> None:
    sides = [side for side in ("t1_jax", "peer") if side in record]
    print(f"| | {' | '.join(sides)} |\n|---{'|---' * len(sides)}|")
    names = [name for name in record[sides[0]] if name != "resident_mib"]
    for name in names:
        cells = " | ".join(f"{record[side][name]:.3g}" for side in sides)
        print(f"| {name} | {cells} |")
    for side in sides:
        memory = record[side]["resident_mib"]
        print(f"{side}: memory {memory[0]} MiB at first, {memory[-1]} at last, {max(memory)} most")
    print(f"time to first token, idle: median {np.median(record['first_token_ms']):.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
