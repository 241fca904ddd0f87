#!/usr/bin/env bash
# Runs `t1` on NVIDIA GPUs: launch/gpu.sh evaluate --collection cwe
# What you set yourself is kept; XLA_FLAGS of your own come last and win.
set -euo pipefail

export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu} # fail at once where there is no GPU; the CPU holds host arrays
# JAX takes 75 % of the memory at the start unless told otherwise; nothing else should run here.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-.92}
# Compiled programs survive the process. Keep the folder private: it holds executables.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/t1_jax/xla}

flags=(
    # Order operations so that collectives run beside matrix products.
    --xla_gpu_enable_latency_hiding_scheduler=true
)
export XLA_FLAGS="${flags[*]}${XLA_FLAGS:+ $XLA_FLAGS}"

exec t1 "$@"
