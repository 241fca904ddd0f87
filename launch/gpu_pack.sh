#!/usr/bin/env bash
# Builds the pack for a GPU machine without a network: launch/gpu_pack.sh   (or: launch/gpu_pack.sh --toy)
# Writes build/gpu_pack/1, build/gpu_pack/2 ...; docs/gpu_check.md explains how to use them.
set -euo pipefail
cd "$(dirname "$0")/.."

export JAX_PLATFORMS=cpu # reference answers come from the CPU, even on a machine with a GPU
exec "${PYTHON:-.venv/bin/python}" -m benchmarks.gpu.pack "$@"
