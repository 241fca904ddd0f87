"""This package as a worker: `python -m benchmarks.worker_t1 MODEL DTYPE`."""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.protocol import serve
from t1_jax.generate import BatchShapes, Prompt, Sampler, SamplingParams, StopTokens
from t1_jax.parallel import count_compilations
from t1_jax.retriever import T1
from t1_jax.retriever.encoder import Encoder
from t1_jax.text import BucketConfig, PromptTokens


def main(path: str, dtype: str) -> None:
    """Loads the model and answers `encode` and `think` tasks."""
    model = T1.load(path, dtype=dtype)
    stop = StopTokens(emb=model.tokenizer.emb_token_id, eos=tuple(model.tokenizer.eos_ids))
    encoder = Encoder(model.decoder, model.mesh_context, model.tokenizer, BucketConfig())
    sampler = Sampler(model.decoder, model.mesh_context, stop, BatchShapes(max_rows=64))

    def encode(task: dict[str, Any]) -> dict[str, Any]:
        rows = [PromptTokens(ids=np.array(ids, np.int32)) for ids in task["rows"]]
        names = [str(i) for i in range(len(rows))]
        return timed(lambda: encoder.encode(rows, names=names, description="encode"))

    def think(task: dict[str, Any]) -> dict[str, Any]:
        prompts = [Prompt(query_id=str(i), token_ids=ids) for i, ids in enumerate(task["prompts"])]
        # The forced `<emb_token>` is one of the new tokens, as an end of text is for the peer.
        max_thought_tokens = task["new_tokens"] - 1
        options = SamplingParams(min_length=max_thought_tokens)
        return timed(
            lambda: list(
                sampler.think(
                    prompts,
                    n=task["samples"],
                    max_thought_tokens=max_thought_tokens,
                    sampling=options,
                )
            )
        )

    serve({"encode": encode, "think": think})


def timed(work: Any) -> dict[str, Any]:
    """Seconds of the work, and what of them went into compiling."""
    with count_compilations() as compiled:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "compile_seconds": compiled.seconds,
        "compilations": compiled.count,
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
