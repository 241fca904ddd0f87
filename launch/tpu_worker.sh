#!/usr/bin/env bash
# What launch/tpu_job.sh runs on the workers of a slice, in the copy of the checkout there.
#   install        installs t1_jax into .venv
#   end            ends what is left of a run whose other workers are gone
#   start ARGS     starts `t1 ARGS` in the background; its output goes to run.log
#   running        succeeds if that run is in progress
#   follow         prints run.log until the run ends, with its exit code; 254 if the machine restarted
#   stop           asks the run to save and end
set -euo pipefail
cd "$(dirname "$0")/.."

# After a restart of the machine the number may be that of another process, which has another folder.
running() { [ -s run.pid ] && [ "/proc/$(cat run.pid)/cwd" -ef . ]; }

case $1 in
install)
    # The system's Python is older than 3.11; uv brings one.
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --allow-existing --python 3.12 .venv
    python3 -m uv pip install --quiet --python .venv/bin/python --constraint constraints/py312.txt --editable '.[tpu,gcs]'
    ;;
end)
    running || exit 0
    # The run has a process group of its own.
    kill -KILL -- "-$(ps -o pgid= -p "$(cat run.pid)" | tr -d ' ')"
    for _ in $(seq 100); do running || exit 0; sleep .1; done
    echo "the former run does not end: process $(cat run.pid)" >&2
    exit 1
    ;;
start)
    running && exit
    rm -f run.code run.pid
    # The workers find each other through the metadata server.
    export T1_MULTI_HOST=1 PATH=$PWD/.venv/bin:$PATH
    # shellcheck disable=SC2016 # expanded by the inner shell
    nohup setsid bash -c 'launch/tpu_v5.sh "$@" & echo $! >run.pid; wait $!; echo $? >run.code' \
        run "${@:2}" >run.log 2>&1 </dev/null &
    for _ in $(seq 100); do [ -s run.pid ] && exit; sleep .1; done
    echo "the run did not start: see run.log" >&2
    exit 1
    ;;
running) running ;;
follow)
    [ -s run.pid ] || exit 254
    # Follows the log as long as the run lives.
    tail --lines=+1 --follow --pid="$(cat run.pid)" run.log
    for _ in $(seq 50); do [ -s run.code ] && exit "$(cat run.code)"; sleep .1; done
    exit 254
    ;;
stop) running && kill -TERM "$(cat run.pid)" ;;
*)
    echo "unknown command $1: install, end, start, running, follow or stop" >&2
    exit 2
    ;;
esac
