#!/usr/bin/env bash
# Starts the service in a container: fetches what is missing from the cache, then calls `t1 serve`.
#   usage: container_entry.sh [OPTIONS OF t1 serve]
set -euo pipefail
# Names that `t1 pull` knows are fetched once; a mounted model or index needs none of them.
for name in ${T1_PULL-smollm2-135m-instruct cwe}; do
    t1 pull "$name"
done
# A container's network reaches this address only through a published port.
exec t1 serve --host 0.0.0.0 --port 8080 "$@"
