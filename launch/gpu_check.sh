#!/usr/bin/env bash
# Checks one NVIDIA GPU: launch/gpu_check.sh PIECES [--plan] [--only a,b] [--output FOLDER] [--toy]
# PIECES: a folder with the pieces that launch/gpu_pack.sh built, at any depth; see docs/gpu_check.md.
set -euo pipefail
pieces=$(realpath "${1:?the folder with the pieces of launch/gpu_pack.sh}")
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
state=$(realpath -m "${T1_CHECK_STATE:-build/gpu_check}")

case " $* " in
*" --plan "*) exec "$python" -m benchmarks.gpu "$@" ;;
esac
if [ ! -e "$state/pack/pack.json" ]; then
    mkdir -p "$state"
    "$python" -c 'import sys; from pathlib import Path; from benchmarks.gpu.pieces import join_folder
join_folder(Path(sys.argv[1]), Path(sys.argv[2]))' "$pieces" "$state/pack"
fi
pack=$state/pack

export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu} # fail at once without a GPU
# JAX preallocates 75 % of the GPU memory by default; this process expects to be alone.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-.92}
# Persistent compilation cache for all parts and checks, fast compilations included.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$state/xla}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export HF_HUB_OFFLINE=1
export T1_CACHE=$pack/cache
export PYTHONPATH=$PWD:$pack/site${PYTHONPATH:+:$PYTHONPATH}
# If the flax of the machine does not work with its jax, use the tested one.
if ! "$python" -c 'from flax import nnx' 2>/dev/null; then
    export PYTHONPATH=$pack/flax:$PYTHONPATH
fi
exec "$python" -m benchmarks.gpu --pack "$pack" --work "$state/work" --output "$state/output" "$@"
