"""Thinks about any number of queries into a JSONL file, and goes on after an interruption."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError, T1Error
from t1_jax.generate import FinishReason, Prompt, SamplingParams, Thought
from t1_jax.retrieval import Query
from t1_jax.retriever.journal import Journal
from t1_jax.retriever.t1 import T1
from t1_jax.retriever.thinking import block_size, think_in_blocks
from t1_jax.text import REPETITIVE, repetition, tokenize_queries


@dataclass(frozen=True, kw_only=True)
class ThoughtCounts:
    """What was thought.

    Attributes:
        queries: queries.
        resumed: those that an interrupted run had thought about.
        truncated_queries: queries that were truncated to fit into the prompt.
        repeated_queries: queries with the text of an earlier one in their block.
        thoughts: thoughts.
        tokens: their tokens, `<emb_token>` not counted.
        truncated: thoughts that were cut off at the maximum length.
        empty: thoughts without a word.
        repetitive: thoughts that repeat themselves; see `repetition`.
    """

    queries: int = 0
    resumed: int = 0
    truncated_queries: int = 0
    repeated_queries: int = 0
    thoughts: int = 0
    tokens: int = 0
    truncated: int = 0
    empty: int = 0
    repetitive: int = 0


Progress = Callable[[int, int], None]
"""Is told of finished queries and of new tokens."""


def write_thoughts(
    model: T1,
    queries: Iterable[Query],
    output: Path,
    *,
    instruction: str,
    n: int = 1,
    max_thought_tokens: int | None = None,
    sampling: SamplingParams,
    seed_by_id: bool,
    block_queries: int | None = None,
    overwrite: bool = False,
    progress: Progress = lambda queries, tokens: None,
    log: Callable[[str], None] = lambda line: None,
) -> ThoughtCounts:
    """Writes a JSONL file with the thoughts about each query, in memory that does not grow.

    What is done is kept beside `output` until the file is complete. The same call goes on from
    there and ends in the same bytes as one that was not interrupted.

    Args:
        model: thinks; its cache of thoughts is used.
        queries: in order.
        output: the file.
        instruction: in the prompts.
        n: thoughts per query.
        max_thought_tokens: most tokens of a thought; default that of the model's options.
        sampling: temperature, filters and seed.
        seed_by_id: derive the randomness of thoughts from query ids instead of texts.
        block_queries: queries of a block; a kill costs the block in progress. Default: as many as
            fill a few batches.
        overwrite: replace blocks that were begun with other settings or queries.
        progress: is told of each finished block with its queries, and of each thought's tokens.
        log: gets a line on what an earlier run had done.

    Raises:
        T1Error: see `Journal.opened`; the queries changed since the file was begun.
        DataError: no query; or as `tokenize_queries`.
        ConfigError: as `T1.encode_query`.
        Interrupted: the interrupt of the model was requested.
    """
    if max_thought_tokens is None:
        max_thought_tokens = model.options.max_thought_tokens
    block_queries = block_queries or block_size(model, n)
    preset = model.preset.with_instruction(instruction)
    settings = {
        "model": model.thought_fingerprint,
        "prompt": model.preset.hash,
        "instruction": instruction,
        "max_query_tokens": model.options.max_query_tokens,
        "n": n,
        "max_thought_tokens": max_thought_tokens,
        **asdict(sampling),
        "seed_by_id": seed_by_id,
        "block_queries": block_queries,
    }

    def think(block: Sequence[Query]) -> tuple[list[list[Thought]], int]:
        """The thoughts about each query, and the number of truncated queries."""
        prompts = tokenize_queries(
            model.tokenizer,
            preset,
            [query.text for query in block],
            max_tokens=model.options.max_query_tokens,
            names=[f"query {query.id!r}" for query in block],
        )
        thoughts = think_in_blocks(
            model,
            [
                Prompt(
                    query_id=query.id if seed_by_id else query.text, token_ids=tokens.ids.tolist()
                )
                for query, tokens in zip(block, prompts, strict=True)
            ],
            n=n,
            max_thought_tokens=max_thought_tokens,
            sampling=sampling,
            on_thought=lambda thought: progress(0, thought.reasoning_tokens),
        )
        return thoughts, sum(tokens.truncated for tokens in prompts)

    with Journal.opened(output, settings, start_again=overwrite) as journal:
        resumed = sum(entry.counts["queries"] for entry in journal.entries)
        if resumed:
            log(f"resuming: {resumed:,} queries have their thoughts")
        count = 0
        for number, block in enumerate(_blocks(queries, block_queries)):
            count = number + 1
            digest = _digest(block)
            if number < len(journal.entries):
                if journal.entries[number].input == digest:
                    progress(len(block), 0)
                    continue
                resumed = number * block_queries
                _drop(journal, number, overwrite, f"in query {resumed + 1:,} or a later one")
            thoughts, truncated = think(block)
            journal.append(
                "".join(_line(*item) for item in zip(block, thoughts, strict=True)).encode(),
                source=digest,
                counts=_counts(block, thoughts, truncated),
            )
            progress(len(block), 0)
        if not count:
            raise DataError("there is no query to think about")
        if count < len(journal.entries):
            resumed = count * block_queries
            _drop(journal, count, overwrite, f"there were more than {resumed:,}")
        totals = sum((Counter(entry.counts) for entry in journal.entries), Counter[str]())
        journal.finish()
    return ThoughtCounts(resumed=min(resumed, totals["queries"]), **totals)


def _drop(journal: Journal, count: int, overwrite: bool, what: str) -> None:
    """Keeps the first blocks, if the user agrees."""
    if not overwrite:
        raise T1Error(
            f"the queries changed since {journal.folder} was begun ({what})",
            hint="add --overwrite to think again about those from there on",
        )
    journal.keep(count)


def _line(query: Query, thoughts: Sequence[Thought]) -> str:
    fields = {
        "_id": query.id,
        "text": query.text,
        "thoughts": [thought_fields(thought) for thought in thoughts],
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def thought_fields(thought: Thought) -> dict[str, Any]:
    """A thought as JSON; `log_prob` is the sum over the sampled tokens, in nats."""
    sampled = slice(-1) if thought.emb_token_appended else slice(None)
    return {
        "sample": thought.sample,
        "text": thought.text,
        "finish_reason": thought.finish_reason.value,
        "tokens": thought.reasoning_tokens,
        "log_prob": float(thought.log_probs[sampled].sum()),
        "log_prob_at_1": float(thought.log_probs_at_1[sampled].sum()),
    }


def _counts(
    block: Sequence[Query], groups: Sequence[Sequence[Thought]], truncated_queries: int
) -> dict[str, int]:
    thoughts = [thought for group in groups for thought in group]
    return {
        "queries": len(block),
        "truncated_queries": truncated_queries,
        "repeated_queries": len(block) - len({query.text for query in block}),
        "thoughts": len(thoughts),
        "tokens": sum(thought.reasoning_tokens for thought in thoughts),
        "truncated": sum(thought.finish_reason is FinishReason.LENGTH for thought in thoughts),
        "empty": sum(not thought.text.strip() for thought in thoughts),
        "repetitive": sum(repetition(thought.text) >= REPETITIVE for thought in thoughts),
    }


def _blocks(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    iterator = iter(queries)
    while block := list(islice(iterator, size)):
        yield block


def _digest(queries: Sequence[Query]) -> str:
    digest = hashlib.sha256()
    for query in queries:
        digest.update(json.dumps([query.id, query.text]).encode() + b"\n")
    return digest.hexdigest()
