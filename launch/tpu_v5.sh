#!/usr/bin/env bash
# On a TPU v5e or v5p machine: runs `t1` with the flags of its generation, as in
#   launch/tpu_v5.sh evaluate --collection cwe
# On your own machine: requests a slice, trains on it through preemptions, and deletes it, as in
#   launch/tpu_v5.sh run NAME --type v5litepod-16 --spot -- train CONFIG output=gs://BUCKET/RUN
# The second form is launch/tpu_job.sh, which lists its commands.
set -euo pipefail
here=$(dirname "$0")

case ${1-} in
up | run | logs | stop | down) exec "$here/tpu_job.sh" "$@" ;;
esac
# The flags differ, and libtpu exits on an unknown flag, so each generation has its own script.
# From the environment on GKE, otherwise from the metadata server, for example v5litepod-8 or v5p-8.
kind=${TPU_ACCELERATOR_TYPE:-$(curl --silent --fail --max-time 3 -H 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/attributes/accelerator-type || true)}
case $kind in
v5lite* | v5e*) exec "$here/tpu_v5e.sh" "$@" ;;
v5p*) exec "$here/tpu_v5p.sh" "$@" ;;
*)
    echo "this machine's accelerator type is '$kind', not TPU v5" >&2
    echo "  hint: run launch/tpu_v5e.sh or launch/tpu_v5p.sh directly" >&2
    exit 2
    ;;
esac
