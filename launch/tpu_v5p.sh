#!/usr/bin/env bash
# Runs `t1` on TPU v5p: launch/tpu_v5p.sh evaluate --collection cwe
# Your own environment variables are kept; your LIBTPU_INIT_ARGS come last and take precedence.
set -euo pipefail

export JAX_PLATFORMS=${JAX_PLATFORMS:-tpu,cpu} # fail at once without a TPU; the CPU holds host arrays
# Compiled programs are cached. Keep the folder private: it holds executables.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/t1_jax/xla}

# Without v5e's three async_collective_fusion flags: libtpu 0.0.52 rejects them on v5p, and an
# unknown flag ends the process.
flags=(
    # Run all-gathers and permutes of sharded weights while matrix products still run.
    --xla_enable_async_all_gather=true
    --xla_enable_async_collective_permute=true
    # Let the tensor core compute while collectives are under way.
    --xla_tpu_overlap_compute_collective_tc=true
    # Sum gradients over data parallel replicas together, whatever their sizes.
    --xla_tpu_enable_data_parallel_all_reduce_opt=true
    --xla_tpu_data_parallel_opt_different_sized_ops=true
    # The two cores of a chip act as one; fusing all-gathers into that would make them wait.
    --xla_tpu_megacore_fusion_allow_ags=false
    # In the backward pass, gather the weights of the next layer while this one is computed.
    --xla_tpu_enable_ag_backward_pipelining=true
    # On-chip memory that a fused operation may use, in KiB.
    --xla_tpu_scoped_vmem_limit_kib=98304
)
export LIBTPU_INIT_ARGS="${flags[*]}${LIBTPU_INIT_ARGS:+ $LIBTPU_INIT_ARGS}"

exec t1 "$@"
