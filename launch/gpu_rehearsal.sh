#!/usr/bin/env bash
# Runs the GPU check at toy size on a CPU, with exactly the packages of constraints/gpu.txt.
#   usage: launch/gpu_rehearsal.sh [ENVIRONMENT]      created once, about 6 GB with PyTorch; T1_PYTHON=python3.12
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$(realpath -m "${1:-.venv-gpu}")
state=build/gpu_rehearsal

if [ ! -e "$environment/ready" ]; then
    "${T1_PYTHON:-python3.12}" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install --quiet --requirement constraints/gpu.txt
    touch "$environment/ready"
fi
rm -rf "$state"
launch/gpu_pack.sh --toy --output "$state/pieces"

start=$SECONDS
# Most of the time is compilation, so XLA does not optimize.
flags=--xla_backend_optimization_level=0
JAX_PLATFORMS=cpu XLA_FLAGS=$flags PYTHON=$environment/bin/python T1_CHECK_STATE=$state \
    launch/gpu_check.sh "$state/pieces" --toy
echo "the rehearsal took $((SECONDS - start)) s"
