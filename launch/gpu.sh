#!/usr/bin/env bash
# Runs `t1` on the NVIDIA GPUs of this machine:   launch/gpu.sh evaluate --collection cwe
# or of a Slurm job, one process for each GPU:    sbatch --nodes=2 --gpus-per-node=8 launch/gpu.sh train CONFIG
# Variables that are already set are kept; your XLA_FLAGS come last and win.
#SBATCH --job-name=t1
#SBATCH --output=t1-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# SIGTERM five minutes before the time limit: the run saves, and the job goes back into the queue.
#SBATCH --signal=TERM@300
set -euo pipefail

# A batch script of Slurm starts itself once for each GPU; the steps of srun have small numbers.
case ${SLURM_JOB_ID:+job}${SLURM_STEP_ID-} in
job | job42949672*)
    gpus=${SLURM_GPUS_ON_NODE:?the job has no GPUs; hint: sbatch --gpus-per-node=N launch/gpu.sh ...}
    code=0
    # 75 would count as a bad exit while other processes still save; a failure ends all of them without Slurm.
    srun --ntasks-per-node="$gpus" --gpus-per-node="$gpus" --kill-on-bad-exit=0 \
        "$SLURM_SUBMIT_DIR/launch/gpu.sh" "$@" || code=$?
    if [ "$code" = 75 ]; then # stopped and saved; the same command resumes
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
    ;;
esac

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
