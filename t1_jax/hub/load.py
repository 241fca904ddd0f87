"""Weights into device memory: one tensor at a time, each straight into its shards."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from t1_jax.errors import UnsupportedError, WeightsError
from t1_jax.hub.sources import EMBEDDING, HEAD, CheckedCast, TensorSource
from t1_jax.hub.weight_map import (
    Rule,
    expected_tensors,
    from_hf,
    hf_names,
    our_shape,
    rules_for,
)
from t1_jax.model import DecoderConfig

_MOST_FAULTS = 50
_ROWS_AT_ONCE = 4096


def load_decoder_state(
    source: TensorSource, config: DecoderConfig, abstract: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Reads a checkpoint into the parameters of a decoder.

    Host memory stays near the largest single tensor: each layer's tensor is written into its place
    in the stacked parameter on the device, and the host never sees a stacked parameter.

    Args:
        source: the checkpoint's tensors.
        config: the decoder as the checkpoint has it.
        abstract: path -> shape, dtype and sharding of every parameter. The vocabulary may be
            longer than the checkpoint's (the rows beyond are zero) or shorter (rows are left out).

    Returns:
        Path -> parameter, laid out as `abstract` asks.

    Raises:
        WeightsError: the checkpoint's tensors are not those of `config`, or have values beyond the
            range of the dtype that `abstract` asks for; all misfits are listed.
        UnsupportedError: a stacked parameter is to be split along its layers.
    """
    check_tensors(source, config)
    rules = {rule.path: rule for rule in rules_for(config)}
    _check_leaves(rules, config, abstract)
    casts = {leaf.dtype: CheckedCast(leaf.dtype) for leaf in abstract.values()}
    state = {
        path: _load_leaf(source, config, rules[path], leaf, casts[leaf.dtype])
        for path, leaf in abstract.items()
    }
    for cast in casts.values():
        cast.refuse_misfits()
    return state


def check_tensors(source: TensorSource, config: DecoderConfig) -> None:
    """Refuses a checkpoint whose tensors are not exactly those of a decoder of this shape.

    Two extras are known to be harmless: the rotary frequencies that old checkpoints carry, and a
    tied head that is bit for bit the embedding.

    Raises:
        WeightsError: lists every missing, unexpected and misshapen tensor.
    """
    expected = expected_tensors(config)
    found = {name for name in source.names() if not name.endswith(".rotary_emb.inv_freq")}
    faults = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in found]
    if HEAD in found - expected.keys() and _is_tied_head(source):
        found.remove(HEAD)
    faults += [f"unexpected: {source.location(name)}" for name in sorted(found - expected.keys())]
    faults += [
        f"misshapen: {source.location(name)} is {source.shape(name)}, expected {shape}"
        for name, shape in expected.items()
        if name in found and source.shape(name) != shape
    ]
    if HEAD in expected and HEAD not in found and len(faults) == 1:
        raise WeightsError(
            f"the checkpoint has no {HEAD}, and its config says that head and embedding differ "
            "(tie_word_embeddings is false): without a head the model cannot think",
            hint="take the causal language model that it was made from",
        )
    if faults:
        more = len(faults) - _MOST_FAULTS
        raise WeightsError(
            f"the tensors do not fit the model's config ({len(faults)} faults):\n  "
            + "\n  ".join(faults[:_MOST_FAULTS])
            + (f"\n  and {more} more" if more > 0 else ""),
            hint="check that the config and the weights are of the same model and revision",
        )


def _is_tied_head(source: TensorSource) -> bool:
    """Whether the checkpoint's head is bit for bit its embedding, compared block by block."""
    names = source.names()
    if EMBEDDING not in names or source.shape(HEAD) != source.shape(EMBEDDING):
        return False
    if source.dtype(HEAD) != source.dtype(EMBEDDING):
        return False
    head, table = source.read(HEAD), source.read(EMBEDDING)
    starts = range(0, len(table), _ROWS_AT_ONCE)
    blocks = (slice(start, start + _ROWS_AT_ONCE) for start in starts)
    return all(head[rows].tobytes() == table[rows].tobytes() for rows in blocks)


def _check_leaves(
    rules: Mapping[str, Rule],
    config: DecoderConfig,
    abstract: Mapping[str, jax.ShapeDtypeStruct],
) -> None:
    """The model's parameters are those of the table, and of its shapes but for the vocabulary."""
    faults = [f"{path} has no parameter" for path in rules.keys() - abstract.keys()]
    faults += [f"{path} has no rule" for path in abstract.keys() - rules.keys()]
    for path in rules.keys() & abstract.keys():
        rule, shape = rules[path], abstract[path].shape
        expected = [config.num_layers] * rule.stacked + [*our_shape(rule, config)]
        if rule.vocab_axis is not None:
            expected[rule.vocab_axis] = shape[rule.vocab_axis]
        if tuple(expected) != shape:
            faults.append(f"{path} is {shape}, expected {tuple(expected)}")
    if faults:
        raise WeightsError(
            "the model's parameters do not fit the checkpoint's config:\n  "
            + "\n  ".join(sorted(faults)),
            hint="build the model from the checkpoint's own config",
        )


def _load_leaf(
    source: TensorSource,
    config: DecoderConfig,
    rule: Rule,
    leaf: jax.ShapeDtypeStruct,
    cast: CheckedCast,
) -> jax.Array:
    """One parameter, from one tensor or from one tensor a layer."""

    def read(name: str) -> np.ndarray:
        values = source.read(name)
        if cast.narrows(values.dtype):
            cast.check(values, source.location(name))
        return from_hf(rule, values, config)

    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if not rule.stacked:
        return _place(read(rule.hf_name), leaf.shape, sharding).astype(leaf.dtype)
    stacked = jnp.zeros(leaf.shape, leaf.dtype, device=sharding)
    of_layer = _without_layers(sharding, rule.path)
    for layer, name in enumerate(hf_names(rule, config)):
        stacked = _set_layer(stacked, _place(read(name), leaf.shape[1:], of_layer), layer)
    return stacked


def _place(
    values: np.ndarray, shape: tuple[int, ...], sharding: jax.sharding.Sharding
) -> jax.Array:
    """Puts `values` on the devices as they are stored, each shard cut and copied on its own."""

    def shard(index: tuple[slice, ...] | None) -> np.ndarray:
        bounds = [part.indices(size)[:2] for part, size in zip(index or (), shape, strict=True)]
        cut = values[tuple(slice(start, stop) for start, stop in bounds)]
        whole = tuple(stop - start for start, stop in bounds)
        if cut.shape == whole and cut.flags.writeable:
            return cut  # dequantized for us alone, unlike a view of a mapped file
        filled = np.zeros(whole, values.dtype)
        filled[tuple(slice(size) for size in cut.shape)] = cut
        return filled

    return jax.make_array_from_callback(shape, sharding, shard)


@partial(jax.jit, donate_argnums=0)
def _set_layer(
    stacked: Shaped[Array, "Y ..."], values: Shaped[Array, "..."], layer: Int[Array, ""] | int
) -> Shaped[Array, "Y ..."]:
    return jax.lax.dynamic_update_index_in_dim(stacked, values.astype(stacked.dtype), layer, axis=0)


def _without_layers(sharding: jax.sharding.Sharding, path: str) -> jax.sharding.Sharding:
    """The sharding of one layer of a stacked parameter."""
    if not isinstance(sharding, jax.NamedSharding):
        return sharding
    layers, *rest = sharding.spec or (None,)
    if layers is not None:
        raise UnsupportedError(
            f"{path} is to be split along its layers, over the mesh axis {layers!r}",
            hint="map the logical axis `layers` to no mesh axis",
        )
    return jax.NamedSharding(sharding.mesh, jax.P(*rest))
