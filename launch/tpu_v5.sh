#!/usr/bin/env bash
# Runs `t1` on TPU v5e or v5p, whichever this machine has: launch/tpu_v5.sh evaluate --collection cwe
# The two take different flags, and an unknown flag ends the process, so each has a file of its own.
set -euo pipefail

case ${TPU_ACCELERATOR_TYPE:-} in # set on every Cloud TPU machine, for example v5litepod-8 or v5p-8
v5lite* | v5e*) exec "$(dirname "$0")/tpu_v5e.sh" "$@" ;;
v5p*) exec "$(dirname "$0")/tpu_v5p.sh" "$@" ;;
*)
    echo "TPU_ACCELERATOR_TYPE is '${TPU_ACCELERATOR_TYPE:-}', which is no TPU v5" >&2
    echo "  mend: call launch/tpu_v5e.sh or launch/tpu_v5p.sh yourself" >&2
    exit 2
    ;;
esac
