#!/usr/bin/env bash
# The check of one GPU at toy size on a CPU, with the packages of a bare machine and nothing else.
#   usage: launch/gpu_rehearsal.sh [ENVIRONMENT]      made once, about 6 GB with PyTorch; T1_PYTHON=python3.12
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
# XLA need not make toy programs fast; compiling is most of the work here.
flags=--xla_backend_optimization_level=0
JAX_PLATFORMS=cpu XLA_FLAGS=$flags PYTHON=$environment/bin/python T1_CHECK_STATE=$state \
    launch/gpu_check.sh "$state/pieces" --toy
echo "the rehearsal took $((SECONDS - start)) s"
