#!/usr/bin/env bash
# A Cloud TPU v5 slice from its request to its deletion. Runs on your machine and needs only gcloud and git.
#   launch/tpu_v5.sh run NAME --type v5litepod-16 --spot -- train CONFIG output=gs://BUCKET/RUN
#
#   up NAME        request the slice, wait for it, copy this checkout to all workers and install it
#   run NAME ...   the same, then start `t1 ...` on all workers and show the log of worker 0; after a
#                  preemption, request the slice again and resume from the bucket
#   logs NAME      show the log of the run, from its beginning to its end
#   stop NAME      ask the run to save and end
#   down NAME      delete the slice, or the request for it
#
#   --type TYPE        accelerator type, such as v5litepod-8, v5litepod-16 or v5p-8
#   --spot             Spot VMs, which are cheaper and may be preempted
#   --setup COMMAND    also run on every worker, as in --setup 't1 pull cwe'
#   --down             delete the slice when the run is complete
#   --zone, --project  as in gcloud; default: those of `gcloud config`
#   --dry-run          print every command and run none
#
# Exit codes: that of `t1`, where 75 is a run that was stopped and saved; 2 for a wrong option; 1 if gcloud fails.
set -euo pipefail
cd "$(dirname "$0")/.."
poll=${T1_POLL_SECONDS:-15} # seconds between two looks at the state of a request
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() { # MESSAGE HINT [CODE]
    printf 'error: %s\n  hint: %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}
say() { printf '%s\n' "$*" >&2; }

verb=$1 name=${2-}
case $name in
'' | -*) fail "$verb needs the name of the slice" "launch/tpu_v5.sh $verb NAME" 2 ;;
esac
shift 2
type='' spot=() setup='' down='' where=() dry='' arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --type | --setup | --zone | --project)
        [ $# -gt 1 ] || fail "$1 needs a value" "$1 VALUE" 2
        case $1 in
        --type) type=$2 ;;
        --setup) setup=$2 ;;
        *) where+=("$1=$2") ;;
        esac
        shift 2
        ;;
    --spot) spot=(--spot) && shift ;;
    --down) down=1 && shift ;;
    --dry-run) dry=1 && shift ;;
    --) shift && arguments=("$@") && break ;;
    *) fail "unknown option $1" "the command of t1 follows after --, as in: run NAME --type v5p-8 -- train CONFIG" 2 ;;
    esac
done
[ "$verb" != run ] || [ ${#arguments[@]} -gt 0 ] || fail "run needs the command of t1" \
    "launch/tpu_v5.sh run $name --type TYPE -- train CONFIG output=gs://BUCKET/RUN" 2
ours="launch/tpu_v5.sh VERB $name${where[*]:+ ${where[*]}}"

# The words as a shell reads them back.
quoted() {
    local word words=()
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./:=@,+-]* | '') word="'${word//\'/\'\\\'\'}'" ;;
        esac
        words+=("$word")
    done
    printf '%s' "${words[*]}"
}

# Prints a command and, without --dry-run, runs it.
tpus() {
    local words=(gcloud compute tpus "$@" ${where[@]+"${where[@]}"} --quiet)
    say "\$ $(quoted "${words[@]}")"
    [ -n "$dry" ] || "${words[@]}"
}
on() { tpus tpu-vm ssh "$name" --worker="$1" --command="$2"; } # WORKERS COMMAND
worker() { on "$1" "t1_jax/launch/tpu_worker.sh $2"; }

# The state of the request; NONE without a request.
state() {
    [ -z "$dry" ] || { echo NONE && return; }
    gcloud compute tpus queued-resources describe "$name" ${where[@]+"${where[@]}"} --quiet \
        --format='value(state.state)' 2>"$scratch/state" && return
    grep -q NOT_FOUND "$scratch/state" || { cat "$scratch/state" >&2 && return 1; }
    echo NONE
}

request() {
    [ -n "$type" ] || fail "there is no slice $name, and --type is not given" "add --type v5litepod-16, for example" 2
    case $type in
    v5lite*) runtime=v2-alpha-tpuv5-lite ;;
    v5p*) runtime=v2-alpha-tpuv5 ;;
    *) fail "$type is not a TPU v5" "--type v5litepod-8, v5litepod-16, v5p-8 ..." 2 ;;
    esac
    # Orbax writes checkpoints to the bucket, which the default scopes of a machine do not allow.
    tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" --runtime-version="$runtime" \
        --scopes=cloud-platform ${spot[@]+"${spot[@]}"} ||
        fail "the request was refused" "ask for quota of $type, or choose another --zone or --type"
}

# Requests the slice unless it is there, and waits until it is.
await_slice() {
    local now before='' requested=''
    while true; do
        now=$(state) || fail "gcloud does not say whether $name exists" "gcloud auth login, and give --project and --zone"
        [ "$now" = "$before" ] || say "$name: $now"
        before=$now
        case $now in
        ACTIVE) return ;;
        NONE) request && requested=1 ;;
        FAILED) # before it was ours: the next request would fail too
            [ -z "$requested" ] || fail "the request failed: $(reason)" "${ours/VERB/down}, then choose another zone or type"
            discard
            ;;
        SUSPENDED | PREEMPTED) discard ;;
        esac
        [ -z "$dry" ] || return 0
        sleep "$poll"
    done
}
reason() {
    gcloud compute tpus queued-resources describe "$name" ${where[@]+"${where[@]}"} --quiet \
        --format='value(state.failedData.error.message)'
}
discard() {
    tpus queued-resources delete "$name" --force || fail "$name could not be deleted" "${ours/VERB/down}"
}

# Copies this checkout, with what git does not ignore, to all workers and installs it.
install() {
    local file tries=0
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
        tar --create --gzip --null --files-from=- --file="$scratch/t1_jax.tar.gz"
    until on all true; do # the machines of a new slice answer after a while
        [ $((tries += 1)) -lt 10 ] || fail "the workers of $name do not answer" "${ours/VERB/down}"
        sleep "$poll"
    done
    if tpus tpu-vm scp "$scratch/t1_jax.tar.gz" "$name:" --worker=all &&
        on all "mkdir -p t1_jax && tar -xzf t1_jax.tar.gz -C t1_jax" && worker all install; then
        [ -z "$setup" ] || on all "cd t1_jax && PATH=\$PWD/.venv/bin:\$PATH && $setup"
    else
        false
    fi || fail "the set-up failed on a worker; the slice is still there and costs money" \
        "correct what it printed above, then the same command again; or ${ours/VERB/down}"
}

# Whether the slice is lost: looks for a while, for a worker notices before the state says so.
lost() {
    for _ in 1 2 3; do
        [ "$(state)" = ACTIVE ] || return 0
        sleep "$poll"
    done
    return 1
}

run() {
    local code restarts=0
    while true; do
        await_slice
        if [ -n "$dry" ] || ! worker 0 running; then
            install
            # When one worker is lost, the others may still wait for it and hold their chips.
            { worker all end && worker all "start $(quoted "${arguments[@]}")"; } || {
                lost && continue
                fail "the run did not start" "the same command again, or ${ours/VERB/down}"
            }
        fi
        code=0 && worker 0 follow || code=$?
        case $code in
        0) break ;;
        2 | 130) exit "$code" ;; # an error of the user's
        esac
        if lost; then
            say "$name was preempted; it is requested again, and the run resumes from its last checkpoint"
            continue
        fi
        case $code in
        75) fail "the run was stopped, and is saved" "the same command resumes it; ${ours/VERB/down} deletes the slice" 75 ;;
        254 | 255) # a machine restarted, or the connection was lost
            [ $((restarts += 1)) -lt 10 ] && say "lost sight of the run; looking again" && continue
            ;;
        esac
        fail "the run ended with exit code $code" "its reason is in the log above; ${ours/VERB/down} deletes the slice" "$code"
    done
    if [ -n "$down" ]; then discard; else say "the slice is still there and costs money: ${ours/VERB/down}"; fi
}

interrupted() {
    say ""
    say "no longer watching $name, which goes on: ${ours/VERB/logs}, ${ours/VERB/stop} or ${ours/VERB/down}"
    exit 130
}
trap interrupted INT

case $verb in
up) await_slice && install ;;
run) run ;;
logs) worker 0 follow ;;
stop) worker all stop ;;
down) discard ;;
esac
