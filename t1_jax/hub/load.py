"""Loads weights into device memory, one tensor at a time, directly into its shards."""

import math
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from t1_jax.errors import UnsupportedError, WeightsError
from t1_jax.hub.sources import EMBEDDING, HEAD, CheckedCast, TensorSource
from t1_jax.hub.weight_map import Rule, expected_tensors, from_hf, hf_names, param_shape, rules_for
from t1_jax.model import DecoderConfig

_MAX_ERRORS = 50
_BLOCK_ROWS = 4096
_HOST_BYTES = 64 * 2**20
"""A parameter of all layers of at most this size is put together on the host: copying it to the
devices needs no compiled program, of which writing layer by layer needs two for each shape."""


def load_decoder_state(
    source: TensorSource, config: DecoderConfig, abstract: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Reads a checkpoint into the parameters of a decoder.

    Peak host memory is that of the largest tensor, or of `_HOST_BYTES` if that is more: the layers
    of a larger stacked parameter are written into it on the device. The result has the paths,
    shapes, dtypes and shardings of `abstract`, whose vocabulary may be longer than that of the
    checkpoint (the additional rows are zero) or shorter (rows are dropped).

    Raises:
        WeightsError: the tensors do not match `config`, or values are not finite in the dtype of
            `abstract`; lists all mismatches.
        UnsupportedError: a stacked parameter is sharded along its layers.
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
        cast.raise_on_overflow()
    return state


def check_tensors(source: TensorSource, config: DecoderConfig) -> None:
    """Raises unless the tensors of a checkpoint match a decoder's config exactly.

    Two additional tensors are accepted: the rotary frequencies of old checkpoints, and a tied head
    that equals the embedding bit for bit.

    Raises:
        WeightsError: lists every missing, unexpected and misshapen tensor.
    """
    expected = expected_tensors(config)
    names = {name for name in source.names() if not name.endswith(".rotary_emb.inv_freq")}
    errors = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in names]
    if HEAD in names - expected.keys() and _is_tied_head(source):
        names.remove(HEAD)
    errors += [f"unexpected: {source.location(name)}" for name in sorted(names - expected.keys())]
    errors += [
        f"misshapen: {source.location(name)} is {source.shape(name)}, expected {shape}"
        for name, shape in expected.items()
        if name in names and source.shape(name) != shape
    ]
    if HEAD in expected and HEAD not in names and len(errors) == 1:
        raise WeightsError(
            f"the checkpoint has no {HEAD}, but its config has tie_word_embeddings = false: "
            "without a head the model cannot think",
            hint="use the causal language model from which it was trained",
        )
    if errors:
        more = len(errors) - _MAX_ERRORS
        raise WeightsError(
            f"the tensors do not match the model's config ({len(errors)} mismatches):\n  "
            + "\n  ".join(errors[:_MAX_ERRORS])
            + (f"\n  and {more} more" if more > 0 else ""),
            hint="check that the config and the weights are of the same model and revision",
        )


def _is_tied_head(source: TensorSource) -> bool:
    """Whether the head equals the embedding bit for bit; compares block by block."""
    names = source.names()
    if EMBEDDING not in names or source.shape(HEAD) != source.shape(EMBEDDING):
        return False
    if source.dtype(HEAD) != source.dtype(EMBEDDING):
        return False
    head, table = source.read(HEAD), source.read(EMBEDDING)
    starts = range(0, len(table), _BLOCK_ROWS)
    blocks = (slice(start, start + _BLOCK_ROWS) for start in starts)
    return all(head[rows].tobytes() == table[rows].tobytes() for rows in blocks)


def _check_leaves(
    rules: Mapping[str, Rule], config: DecoderConfig, abstract: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    """Raises unless the parameters match the weight map, in paths and (but for V) shapes."""
    errors = [f"{path} has no parameter" for path in rules.keys() - abstract.keys()]
    errors += [f"{path} has no rule" for path in abstract.keys() - rules.keys()]
    for path in rules.keys() & abstract.keys():
        rule, shape = rules[path], abstract[path].shape
        expected = [config.num_layers] * rule.stacked + [*param_shape(rule, config)]
        if rule.vocab_axis is not None:
            expected[rule.vocab_axis] = shape[rule.vocab_axis]
        if tuple(expected) != shape:
            errors.append(f"{path} is {shape}, expected {tuple(expected)}")
    if errors:
        raise WeightsError(
            "the model's parameters do not match the checkpoint's config:\n  "
            + "\n  ".join(sorted(errors)),
            hint="build the model with the checkpoint's config",
        )


def _load_leaf(
    source: TensorSource,
    config: DecoderConfig,
    rule: Rule,
    leaf: jax.ShapeDtypeStruct,
    cast: CheckedCast,
) -> jax.Array:
    """One parameter, from one tensor or from one tensor per layer."""

    def read(name: str) -> np.ndarray:
        values = source.read(name)
        if cast.can_overflow(values.dtype):
            cast.check(values, source.location(name))
        return from_hf(rule, values, config)

    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if not rule.stacked:
        return _device_put(read(rule.hf_name), leaf.shape, sharding).astype(leaf.dtype)
    layer_sharding = _layer_sharding(sharding, rule.path)
    names = hf_names(rule, config)
    dtype, *others = {source.dtype(name) for name in names}
    if not others and math.prod(leaf.shape) * dtype.itemsize <= _HOST_BYTES:
        whole = np.empty(leaf.shape, dtype)
        for layer, name in enumerate(names):
            whole[layer] = read(name)
        return _device_put(whole, leaf.shape, sharding).astype(leaf.dtype)
    stacked = jnp.zeros(leaf.shape, leaf.dtype, device=sharding)
    for layer, name in enumerate(names):
        values = _device_put(read(name), leaf.shape[1:], layer_sharding)
        stacked = _set_layer(stacked, values, layer)
    return stacked


def _device_put(
    values: np.ndarray, shape: tuple[int, ...], sharding: jax.sharding.Sharding
) -> jax.Array:
    """Copies `values` to the devices in their stored dtype, padded or cut to `shape`, per shard."""

    def shard(index: tuple[slice, ...] | None) -> np.ndarray:
        bounds = [part.indices(size)[:2] for part, size in zip(index or (), shape, strict=True)]
        cut = values[tuple(slice(start, stop) for start, stop in bounds)]
        whole = tuple(stop - start for start, stop in bounds)
        if cut.shape == whole and cut.flags.writeable:
            return cut  # a dequantized array, not a view of a mapped file
        filled = np.zeros(whole, values.dtype)
        filled[tuple(slice(size) for size in cut.shape)] = cut
        return filled

    return jax.make_array_from_callback(shape, sharding, shard)


@partial(jax.jit, donate_argnums=0)
def _set_layer(
    stacked: Shaped[Array, "Y ..."], values: Shaped[Array, "..."], layer: Int[Array, ""] | int
) -> Shaped[Array, "Y ..."]:
    return jax.lax.dynamic_update_index_in_dim(stacked, values.astype(stacked.dtype), layer, axis=0)


def _layer_sharding(sharding: jax.sharding.Sharding, path: str) -> jax.sharding.Sharding:
    """The sharding of one layer of a stacked parameter."""
    if not isinstance(sharding, jax.NamedSharding):
        return sharding
    layers, *rest = sharding.spec or (None,)
    if layers is not None:
        raise UnsupportedError(
            f"{path} cannot be sharded along its layers, over the mesh axis {layers!r}",
            hint="map the logical axis `layers` to no mesh axis",
        )
    return jax.NamedSharding(sharding.mesh, jax.P(*rest))
