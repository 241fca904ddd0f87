#!/usr/bin/env bash
# Runs `t1` on NVIDIA GPUs: launch/gpu.sh evaluate --collection cwe
# Variables that are already set are kept; your XLA_FLAGS come last and win.
set -euo pipefail

export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu} # fail at once without a GPU; the CPU holds host arrays
# JAX preallocates 75 % of the GPU memory by default; this process expects to be alone.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-.92}
# Persistent compilation cache. Keep the folder private: it holds executables.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/t1_jax/xla}

flags=(
    # Overlap collectives with matrix products.
    --xla_gpu_enable_latency_hiding_scheduler=true
)
export XLA_FLAGS="${flags[*]}${XLA_FLAGS:+ $XLA_FLAGS}"

exec t1 "$@"
