"""How likely given thoughts are for the model: one forward pass over a prompt and all of them."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from t1_jax.model import AttentionMask, Decoder
from t1_jax.parallel import activation_axes, global_to_host, host_to_global
from t1_jax.text import BucketConfig

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1

_LOGIT_BYTES = 2**28
"""Bound of the float32 logits of a batch, unless a single row has more: 256 MiB."""
_PADDING = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """A prompt, which is segment 0, and thoughts, which are segments of their own.

    Attributes:
        owners: for each thought its query, and its number among the thoughts of the query.
        tokens: prompt and thoughts.
        positions: of each token in prompt + thought.
        segment_ids: 0 in the prompt, 1, 2, ... in the thoughts.
        predictors: for each token of the thoughts, the slot whose hidden state predicts it.
        targets: these tokens.
        lengths: number of tokens of each thought.
    """

    owners: Sequence[tuple[int, int]]
    tokens: Int[np.ndarray, " L"]
    positions: Int[np.ndarray, " L"]
    segment_ids: Int[np.ndarray, " L"]
    predictors: Int[np.ndarray, " A"]
    targets: Int[np.ndarray, " A"]
    lengths: Sequence[int]


@functools.partial(jax.jit, static_argnames=("graph",))
def _target_log_probs(
    graph: nnx.GraphDef[Decoder],
    weights: nnx.State,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    mask: AttentionMask,
    predictors: Int[Array, "B A"],
    targets: Int[Array, "B A"],
) -> Float[Array, "B A"]:
    decoder = nnx.merge(graph, weights)
    hidden = decoder(tokens, positions=positions, mask=mask)
    rows = jnp.arange(hidden.shape[0])[:, None]
    spec = decoder.rules.spec(activation_axes("bld"))
    logits = decoder.logits(hidden.at[rows, predictors].get(out_sharding=spec))
    # A comparison, not a gather: the vocabulary stays sharded over devices.
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]
    chosen = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def thought_tokens(model: "T1", thoughts: Sequence[str]) -> list[Int[np.ndarray, " _"]]:
    """Token ids of user-supplied thoughts, truncated to `options.max_thought_tokens`.

    An empty thought has only the `<emb_token>` that ends it.
    """
    most = model.options.max_thought_tokens
    end = np.array([model.tokenizer.emb_token_id], np.int32)
    return [ids[:most] if len(ids) else end for ids in model.tokenizer.encode_thoughts(thoughts)]


def mean_log_probs(
    model: "T1",
    prompts: Sequence[Int[np.ndarray, " _"]],
    thoughts: Sequence[Sequence[Int[np.ndarray, " _"]]],
    *,
    advance: Callable[[int], None] = lambda prompts: None,
) -> list[Float[np.ndarray, " _"]]:
    """Mean log-probability per token, in nats at temperature 1, of each prompt's thoughts.

    The prompt is computed once for all of its thoughts, which share a row and do not see one
    another. A model with a sliding window, or with another attention back end than `xla`, has a row
    for each thought.

    Args:
        model: computes.
        prompts: token ids of each prompt.
        thoughts: token ids of its thoughts, none empty.
        advance: is told of finished prompts.
    """
    decoder, mesh_context = model.decoder, model.mesh_context
    shares = shares_prefix(decoder)
    buckets = model.options.buckets.within(decoder.config.max_positions)
    longest = buckets.lengths[-1]
    rows = [
        row
        for number, (prompt, group) in enumerate(zip(prompts, thoughts, strict=True))
        for row in _rows(number, prompt, group, longest if shares else 0)
    ]
    most = max(_LOGIT_BYTES // (4 * decoder.config.padded_vocab_size), 1)
    result = [np.zeros(len(group), np.float32) for group in thoughts]
    with mesh_context.activate():
        graph, weights = nnx.split(decoder)
        for batch, (size, length, width) in _batches(rows, buckets, most):
            size += -size % mesh_context.batch_divisor

            def put(values: Sequence[np.ndarray], shape: tuple[int, int], fill: int) -> jax.Array:
                table = np.full(shape, fill, np.int32)
                for row, array in enumerate(values):
                    table[row, : len(array)] = array
                return host_to_global(table, mesh_context.activation("bl"))

            by_token, by_target = (size, length), (size, width)
            mask = AttentionMask()
            if shares:
                segment_ids = put([row.segment_ids for row in batch], by_token, _PADDING)
                mask = AttentionMask(segment_ids=segment_ids, shared_prefix=True)
            log_probs = global_to_host(
                _target_log_probs(
                    graph,
                    weights,
                    put([row.tokens for row in batch], by_token, model.tokenizer.pad_id),
                    put([row.positions for row in batch], by_token, 0),
                    mask,
                    put([row.predictors for row in batch], by_target, 0),
                    put([row.targets for row in batch], by_target, 0),
                )
            )
            for row, item in enumerate(batch):
                ends = np.cumsum(item.lengths)
                for (query, number), end, count in zip(
                    item.owners, ends, item.lengths, strict=True
                ):
                    result[query][number] = log_probs[row, end - count : end].mean()
            last = [item.owners[-1] for item in batch]
            advance(sum(number == len(thoughts[query]) - 1 for query, number in last))
    return result


def shares_prefix(decoder: Decoder) -> bool:
    """Whether the attention back end can compute a prompt and all its thoughts in one row."""
    return decoder.options.attention == "xla" and not any(decoder.config.windows)


def _rows(
    query: int,
    prompt: Int[np.ndarray, " _"],
    thoughts: Sequence[Int[np.ndarray, " _"]],
    longest: int,
) -> list[_Row]:
    """Rows of at most `longest` tokens, or with a single thought."""
    rows: list[_Row] = []
    part: list[int] = []
    end = len(prompt)
    for number, thought in enumerate(thoughts):
        if part and end + len(thought) > longest:
            rows.append(_row(query, part, prompt, thoughts))
            part, end = [], len(prompt)
        part.append(number)
        end += len(thought)
    if part:
        rows.append(_row(query, part, prompt, thoughts))
    return rows


def _row(
    query: int,
    numbers: Sequence[int],
    prompt: Int[np.ndarray, " _"],
    thoughts: Sequence[Int[np.ndarray, " _"]],
) -> _Row:
    chosen = [thoughts[number] for number in numbers]
    starts = np.cumsum([len(prompt), *(len(thought) for thought in chosen)])
    places = list(zip(chosen, starts, strict=False))
    return _Row(
        owners=[(query, number) for number in numbers],
        tokens=np.concatenate([prompt, *chosen]),
        positions=np.concatenate(
            [np.arange(len(prompt)), *(len(prompt) + np.arange(len(t)) for t in chosen)]
        ),
        segment_ids=np.repeat(
            np.arange(len(chosen) + 1), [len(prompt), *(len(thought) for thought in chosen)]
        ),
        # The first token of a thought follows the prompt, wherever the thought lies in the row.
        predictors=np.concatenate(
            [
                np.concatenate([[len(prompt) - 1], start + np.arange(len(thought) - 1)])
                for thought, start in places
            ]
        ),
        targets=np.concatenate(chosen),
        lengths=[len(thought) for thought in chosen],
    )


def _batches(
    rows: Sequence[_Row], buckets: BucketConfig, most_targets: int
) -> Iterator[tuple[list[_Row], tuple[int, int, int]]]:
    """Rows of one padded length with the shape of their batch: rows, tokens, targets."""
    by_length: dict[int, list[_Row]] = {}
    for row in rows:
        by_length.setdefault(buckets.length_for(len(row.tokens)), []).append(row)
    for length, group in sorted(by_length.items(), reverse=True):
        width = buckets.length_for(max(len(row.targets) for row in group))
        sizes = [
            size
            for size in buckets.batch_sizes_for(length)
            if size == 1 or size * width <= most_targets
        ]
        for start in range(0, len(group), sizes[-1]):
            batch = group[start : start + sizes[-1]]
            size = min(size for size in sizes if size >= len(batch))
            yield batch, (size, length, width)
