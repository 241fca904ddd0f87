#!/usr/bin/env bash
# Runs `t1` on TPU v5e (v5litepod): launch/tpu_v5e.sh evaluate --collection cwe
# Variables that are already set are kept; your LIBTPU_INIT_ARGS come last and win.
set -euo pipefail

export JAX_PLATFORMS=${JAX_PLATFORMS:-tpu,cpu} # fail at once without a TPU; the CPU holds host arrays
# Persistent compilation cache. Keep the folder private: it holds executables.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/t1_jax/xla}

flags=(
    # Overlap all-gathers of sharded weights with the preceding matrix products ...
    --xla_enable_async_all_gather=true
    --xla_tpu_enable_async_collective_fusion=true
    # ... fused with them, all-gathers included, over several of their steps.
    --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
    --xla_tpu_enable_async_collective_fusion_multiple_steps=true
    # Overlap compute on the tensor core with collectives.
    --xla_tpu_overlap_compute_collective_tc=true
    # Combine all-reduces of gradients over data-parallel replicas, of any size.
    --xla_tpu_enable_data_parallel_all_reduce_opt=true
    --xla_tpu_data_parallel_opt_different_sized_ops=true
    # On-chip memory limit of a fused operation, in KiB.
    --xla_tpu_scoped_vmem_limit_kib=98304
)
export LIBTPU_INIT_ARGS="${flags[*]}${LIBTPU_INIT_ARGS:+ $LIBTPU_INIT_ARGS}"

exec t1 "$@"
