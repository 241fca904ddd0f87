#!/usr/bin/env bash
# Builds what travels to a bare machine with a GPU: launch/gpu_pack.sh   (or: launch/gpu_pack.sh --toy)
# The pieces lie in build/gpu_pack/1, build/gpu_pack/2 ...; docs/gpu_check.md says what to do with them.
set -euo pipefail
cd "$(dirname "$0")/.."

export JAX_PLATFORMS=cpu # the reference answers are a CPU's, also on a machine with a GPU
exec "${PYTHON:-.venv/bin/python}" -m benchmarks.gpu.pack "$@"
