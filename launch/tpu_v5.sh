#!/usr/bin/env bash
# Runs `t1` on TPU v5e or v5p, whichever this machine has: launch/tpu_v5.sh evaluate --collection cwe
# They take different flags, and an unknown flag ends the process, so each has its own script.
set -euo pipefail

# In the environment on GKE; elsewhere in the metadata of the TPU machine, for example v5litepod-8 or v5p-8.
kind=${TPU_ACCELERATOR_TYPE:-$(curl --silent --fail --max-time 3 -H 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/attributes/accelerator-type || true)}
case $kind in
v5lite* | v5e*) exec "$(dirname "$0")/tpu_v5e.sh" "$@" ;;
v5p*) exec "$(dirname "$0")/tpu_v5p.sh" "$@" ;;
*)
    echo "this machine's accelerator type is '$kind', which is not a TPU v5" >&2
    echo "  hint: call launch/tpu_v5e.sh or launch/tpu_v5p.sh yourself" >&2
    exit 2
    ;;
esac
