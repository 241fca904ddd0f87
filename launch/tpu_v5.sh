#!/usr/bin/env bash
# Runs `t1` on TPU v5e or v5p, whichever this machine has: launch/tpu_v5.sh evaluate --collection cwe
# Their flags differ, and libtpu exits on an unknown flag, so each has its own script.
set -euo pipefail

# From the environment on GKE, otherwise from the metadata server, for example v5litepod-8 or v5p-8.
kind=${TPU_ACCELERATOR_TYPE:-$(curl --silent --fail --max-time 3 -H 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/attributes/accelerator-type || true)}
case $kind in
v5lite* | v5e*) exec "$(dirname "$0")/tpu_v5e.sh" "$@" ;;
v5p*) exec "$(dirname "$0")/tpu_v5p.sh" "$@" ;;
*)
    echo "this machine's accelerator type is '$kind', not TPU v5" >&2
    echo "  hint: run launch/tpu_v5e.sh or launch/tpu_v5p.sh directly" >&2
    exit 2
    ;;
esac
