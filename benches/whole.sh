#!/usr/bin/env bash
# The bars that only a whole process can show, each next to the measured value: memory, wake-ups,
# disk writes, storms, starts, a mesh of 200 MB, the end of a job. Real release binaries, `conjured
# run` against `conjured simulator`, loopback only. `probe.py` in this folder does what bash cannot:
# microseconds, /proc, floods of writes.
#
#   benches/whole.sh [idle|many|noticed|storm|start|huge|end|size ...]     all of them: some eight minutes
#
# QUIET=60 is how long the idle daemon is observed; RUNS=3 how many jobs of 30 s are timed. Needs
# Linux, curl and python3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
bin=${CONJURED:-$here/../target/release/conjured}
quiet=${QUIET:-60}
runs=${RUNS:-3}
work=$(mktemp -d "${TMPDIR:-/tmp}/conjured-whole.XXXXXX")
started=()
trap 'status=$?; [ $status = 0 ] || tail -5 "$work/stderr" >&2; for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work"' EXIT

probe() { python3 "$here/probe.py" "$@"; }
row() { printf '%-58s | %-34s | %s\n' "$1" "$2" "$3"; }
# Extracts one value from a line of `name=value` pairs.
of() { tr ' ' '\n' <<<"$2" | sed -n "s/^$1=//p"; }

# simulator RUN_SECONDS: starts one and sets `api`.
simulator() {
  rm -f "$work/api"
  "$bin" -q simulator --listen 127.0.0.1:0 --cold-start-s 0 --keep-warm-s 3600 --run-s "$1" >"$work/api" 2>/dev/null &
  started+=("$!")
  until [ -s "$work/api" ]; do sleep 0.02; done
  api=$(head -1 "$work/api")
}

# config NAME PROJECTS: writes a configuration for this many projects below $work/NAME and sets
# `config` and `socket`.
config() {
  config=$work/$1.toml socket=$work/$1/state/conjured.sock
  mkdir -p "$work/$1"
  {
    printf 'state_dir = "%s"\n' "$work/$1/state"
    for ((n = 0; n < $2; n++)); do printf '[[project]]\nname = "p%d"\nroot = "%s"\n' "$n" "$work/$1/p$n"; done
    printf '[trigger]\nmin_interval_s = 0\nafter_result_hold_s = 0\n[generation]\ncache = false\n'
    printf '[serverless]\napi_url = "%s"\ndownload_hosts = ["127.0.0.1"]\ndeployment_id = "simulated"\n' "$api"
    printf '[budget]\nper_session_usd = 1000\n[log]\ndir = "%s"\n' "$work/$1/log"
  } >"$config"
}

# daemon: starts one for `config`, waits for its first answer and sets `pid`.
daemon() {
  RUNCOMFY_API_TOKEN=simulated "$bin" --config "$config" run 2>>"$work/stderr" &
  pid=$!
  started+=("$pid")
  probe ready "$socket" >/dev/null
}

stop() { kill "$pid" && wait "$pid" || true; }
jobs_of() { "$bin" --config "$config" jobs list --json | grep -o '"state"' | wc -l; }

# job WORDS: starts one job and waits for its end.
job() {
  probe touch "$work/$name/p0" "$1"
  probe until_done "$socket" "$pid" 120
}

idle() {
  name=idle; simulator 0.5; config idle 1; probe projects "$work/idle" 1; daemon; sleep 12
  found=$(probe idle "$pid" "$quiet")
  row "idle, one project: wake-ups a second" "0.2" "$(of wakeups "$found")"
  row "idle, one project: resident" "15 MB" "$(of rss_mb "$found") MB (peak $(of peak_mb "$found"), $(of threads "$found") threads)"
  row "idle, one project: disk writes in $quiet s" "0" "$(of written "$found") bytes"
  job "a carrot in the shape of a chair" >/dev/null; sleep 12
  found=$(probe idle "$pid" 5)
  row "resident after a job" "15 MB" "$(of rss_mb "$found") MB (peak $(of peak_mb "$found"))"
  stop
}

many() {
  # After two of the checks that run every minute: until then every file is read a second time.
  name=many; simulator 0.5; config many 1000; probe projects "$work/many" 1000; daemon; sleep 130
  found=$(probe idle "$pid" "$quiet")
  row "1 000 projects: resident" "60 MB" "$(of rss_mb "$found") MB (peak $(of peak_mb "$found"))"
  row "1 000 projects: wake-ups a second, CPU in $quiet s" "idle (0.2)" "$(of wakeups "$found"), $(of cpu "$found") s"
  stop
}

noticed() {
  name=noticed; simulator 0.5; config noticed 1; probe projects "$work/noticed" 1; daemon; sleep 2
  found=$(probe noticed "$work/noticed/p0" 300)
  row "prompt written -> daemon opens it" "1 ms median, 5 ms p99" \
    "$(of median_ms "$found") ms, $(of p99_ms "$found") ms (inotify to us: $(of inotify_ms "$found") ms)"
  stop
}

storm() {
  # ext4 flushes a file that was truncated and closed, which limits it to 2 000 writes a second.
  if [[ -d /dev/shm && $work != /dev/shm/* ]]; then TMPDIR=/dev/shm "$0" storm | tail -n +2; return; fi
  name=storm; simulator 0.5; config storm 1; probe projects "$work/storm" 1; daemon; sleep 2
  found=$(probe storm "$work/storm/p0" "$pid" 10 100000)
  sleep 9
  sent=$(curl -sf "$api/_control/stats" | python3 -c 'import json,sys; r=json.load(sys.stdin)["requests"]; print(len(r), "jobs, last prompt:", r[-1]["prompt"] if r else "none")')
  row "100 000 writes in $(of took_s "$found") s: jobs" "1, with the last content" "$sent"
  row "100 000 writes: CPU share" "0.25 of one core" "$(of cpu_share "$found")"
  stop
}

start() {
  name=start; simulator 0.2; config start 1; probe projects "$work/start" 1; daemon; sleep 6
  job "a throne" >/dev/null; stop
  probe ledger "$work/start/state/ledger.sqlite" 10000 >/dev/null
  export RUNCOMFY_API_TOKEN=simulated
  found=$(probe start "$socket" "$bin" --config "$config" run)
  row "start to first answer, 10 000 jobs in the ledger" "50 ms" "$(of median_ms "$found") ms ($(of least_ms "$found") to $(of most_ms "$found"))"
  daemon
  found=$(probe command 30 "$bin" --config "$config" status)
  row "conjured status, process and all" "20 ms" "$(of median_ms "$found") ms (at most $(of most_ms "$found"))"
  stop
}

huge() {
  name=huge; simulator 0.5; config huge 1; probe projects "$work/huge" 1; daemon; sleep 12
  before=$(of rss_mb "$(probe idle "$pid" 1)")
  curl -sf -o /dev/null "$api/_control/faults" -d '{"fault":{"file":{"product":"mesh","content":{"huge":{"megabytes":200}}}}}'
  found=$(job "a mountain")
  size=$(stat -c %s "$work/huge/p0/data/generated_models/partpacker_results/result.glb" 2>/dev/null || echo 0)
  row "most memory while a mesh of $((size / 1000000)) MB comes in" "10 MB above idle" "$(of peak_mb "$found") MB, idle $before MB, in $(of took_s "$found") s"
  stop
}

end() {
  name=end; simulator 30; config end 1; probe projects "$work/end" 1; daemon; sleep 2
  for ((n = 1; n <= runs; n++)); do
    probe touch "$work/end/p0" "chair number $n"
    at=$(of at "$(probe placed "$work/end/p0" data/generated_images/flux/flux.png data/generated_models/partpacker_results/result.glb 90)")
    late=$(curl -sf "$api/_control/stats" | python3 -c '
import datetime, json, sys
run = json.load(sys.stdin)["requests"][-1]
ended = datetime.datetime.fromisoformat(run["finished_at"].rstrip("Z")).replace(tzinfo=datetime.timezone.utc)
print(round((float(sys.argv[1]) - ended.timestamp()) * 1000), "ms,", run["status_calls"], "status calls")' "$at")
    row "job of 30 s done -> both files placed, run $n" "500 ms median, 40 calls" "$late"
    sleep 2
  done
  stop
}

size() { row "release binary, stripped" "15 MB" "$(stat -c %s "$bin" | awk '{printf "%.1f MB", $1 / 1e6}')"; }

row "what" "bar" "measured"
for part in "${@:-size idle many noticed storm start huge end}"; do
  for one in $part; do "$one"; done
done
