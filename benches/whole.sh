#!/usr/bin/env bash
# Measures what only a whole process can show, and prints each value with its target: memory,
# wake-ups, disk writes, storms of events, starts, a mesh of 200 MB, the end of a job. It runs
# release binaries on the loopback: `conjured run` against `conjured simulator`. `probe.py` in this
# folder does what bash cannot: microseconds, /proc, floods of writes.
#
#     benches/whole.sh [--short] [size|idle|many|noticed|storm|start|huge|end ...]
#
# Without a name it measures everything, which takes about ten minutes. `--short` takes about a
# minute with smaller amounts: its values say nothing about the targets, only that each measurement
# still works (CI runs it). A measurement that measured nothing fails: the exit code is 1 and the
# last lines name it.
#
# QUIET=60 is the number of seconds for which idleness is observed, RUNS=5 the number of jobs that
# are timed to their end, CONJURED the binary. It needs Linux and python3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
bin=${CONJURED:-$here/../target/release/conjured}
short=
[ "${1:-}" != --short ] || { short=1; shift; }
# amount FULL SHORT: picks one of the two amounts.
amount() { if [ -n "$short" ]; then echo "$2"; else echo "$1"; fi; }
quiet=${QUIET:-$(amount 60 3)}
runs=${RUNS:-$(amount 5 1)}
settle=$(amount 12 3)

work=$(mktemp -d "${TMPDIR:-/tmp}/conjured-whole.XXXXXX")
folders=("$work")
started=()
wrong=()
cleanup() {
  local status=$?
  [ "$status" = 0 ] || tail -n 5 "$work/stderr" >&2 || true
  for pid in "${started[@]}"; do kill "$pid" 2> /dev/null || true; done
  wait
  rm -rf "${folders[@]}"
}
trap cleanup EXIT

[ -x "$bin" ] || { echo "there is no $bin: cargo build --release" >&2; exit 1; }

probe() { python3 "$here/probe.py" "$@"; }
row() { printf '%-58s | %-34s | %s\n' "$1" "$2" "$3"; }
fail() { wrong+=("$*"); }

# measure WORD ARGUMENT...: runs a probe and puts its values into `found`. Reading a missing value
# (`${found[name]:?}`) ends the script.
declare -A found
measure() {
  local line pair
  line=$(probe "$@")
  found=()
  for pair in $line; do found[${pair%%=*}]=${pair#*=}; done
}

# simulator RUN_SECONDS: starts one and sets `api`. A machine that stays warm for long would make
# every job expensive, because the estimate includes it.
simulator() {
  rm -f "$work/api"
  "$bin" -q simulator --listen 127.0.0.1:0 --cold-start-s 0 --keep-warm-s 60 --run-s "$1" > "$work/api" 2> /dev/null &
  started+=("$!")
  until [ -s "$work/api" ]; do kill -0 "$!"; sleep 0.02; done
  api=$(head -n 1 "$work/api")
}

# config NAME PROJECTS [FOLDER] [SIDE]: creates this many projects with renders of SIDE x SIDE
# (1024), writes their configuration and sets `base`, `config` and `socket`. Budgets must not stop
# the measurement, and no other backend may be used instead: nothing leaves this machine.
config() {
  base=${3:-$work}/$1 config=$work/$1.toml socket=${3:-$work}/$1/state/conjured.sock
  mkdir -p "$base"
  {
    printf 'mode = "serverless"\nstate_dir = "%s"\n' "$base/state"
    for ((n = 0; n < $2; n++)); do printf '[[project]]\nname = "p%d"\nroot = "%s"\n' "$n" "$base/p$n"; done
    printf '[trigger]\nmin_interval_s = 0\nafter_result_hold_s = 0\n[generation]\ncache = false\n'
    printf '[serverless]\napi_url = "%s"\ndownload_hosts = ["127.0.0.1"]\ndeployment_id = "simulated"\n' "$api"
    printf '[budget]\nper_job_usd = 1000\nper_session_usd = 1000\n[log]\ndir = "%s"\n' "$base/log"
  } > "$config"
  probe projects "$base" "$2" "${4:-$(amount 1024 128)}"
}

# daemon: starts one for `config`, waits for its first answer and sets `pid`.
daemon() {
  RUNCOMFY_API_TOKEN=simulated "$bin" --config "$config" run 2>> "$work/stderr" &
  pid=$!
  started+=("$pid")
  probe ready "$socket" > /dev/null
}

stop() { kill "$pid" && wait "$pid" || true; }

# job WORDS: runs one job and waits until it is done; leaves its values in `found`.
job() {
  probe touch "$base/p0" "$1"
  measure until_done "$socket" "$pid" 120
}

idle() {
  simulator 0.5; config idle 1; daemon; sleep "$settle"
  measure idle "$pid" "$quiet"
  local before=${found[rss_mb]:?}
  row "idle, one project: wake-ups a second" "0.2" "${found[wakeups]:?}"
  row "idle, one project: resident" "15 MB" "$before MB (peak ${found[peak_mb]:?}, ${found[threads]:?} threads)"
  row "idle, one project: disk writes in $quiet s" "0" "${found[written]:?} bytes"
  job "a carrot in the shape of a chair"
  sleep "$(amount 60 3)"
  measure idle "$pid" "$(amount 5 1)"
  row "resident a minute after a job" "3 MB above before" \
    "$(awk "BEGIN { printf \"%+.1f\", ${found[rss_mb]:?} - $before }") MB: ${found[rss_mb]:?} (peak ${found[peak_mb]:?})"
  stop
}

many() {
  local count
  count=$(amount 1000 40)
  # The full form waits for two of the checks that run once a minute: until then every file is read
  # a second time.
  simulator 0.5; config many "$count"; daemon; sleep "$(amount 130 3)"
  measure idle "$pid" "$quiet"
  row "$count projects: resident" "60 MB" "${found[rss_mb]:?} MB (peak ${found[peak_mb]:?})"
  row "$count projects: wake-ups a second, CPU in $quiet s" "idle (0.2)" "${found[wakeups]:?}, ${found[cpu]:?} s"
  stop
}

noticed() {
  simulator 0.5; config noticed 1; daemon; sleep 2
  measure noticed "$base/p0" "$(amount 300 20)"
  row "prompt written -> daemon opens it" "1 ms median, 5 ms p99" \
    "${found[median_ms]:?} ms, ${found[p99_ms]:?} ms (inotify to us: ${found[inotify_ms]:?} ms)"
  stop
}

storm() {
  local seconds writes folder=$work
  seconds=$(amount 10 1) writes=$(amount 100000 5000)
  # ext4 flushes a file when it is truncated and closed, and then 2 000 writes per second are the
  # most that is possible.
  if [ -d /dev/shm ]; then
    folder=$(mktemp -d /dev/shm/conjured-whole.XXXXXX)
    folders+=("$folder")
  fi
  simulator 0.5; config storm 1 "$folder"; daemon; sleep 2
  measure storm "$base/p0" "$pid" "$seconds" "$writes"
  row "$writes writes in ${found[took_s]:?} s: CPU share" "0.25 of one core" "${found[cpu_share]:?}"
  local last=${found[last]:?}
  # Until the last content is sent, and then long enough for a second job to appear.
  measure sent "$api" "${last/_/ }" 30
  sleep 5
  measure requests "$api"
  row "$writes writes: jobs" "1, with the last content" "${found[count]:?}, last prompt: ${found[prompt]//_/ }"
  [ "${found[count]}" = 1 ] || fail "storm: ${found[count]} jobs instead of 1"
  stop
}

start() {
  local rows
  rows=$(amount 10000 200)
  simulator 0.2; config start 1; daemon; sleep "$(amount 6 2)"
  job "a throne"
  stop
  measure ledger "$base/state/ledger.sqlite" "$rows"
  [ "${found[jobs]:?}" -ge "$rows" ] || fail "start: the ledger has ${found[jobs]} jobs instead of $rows"
  export RUNCOMFY_API_TOKEN=simulated
  measure start "$socket" "$bin" --config "$config" run
  row "start to first answer, $rows jobs in the ledger" "50 ms" "${found[median_ms]:?} ms (${found[least_ms]:?} to ${found[most_ms]:?})"
  daemon
  measure command 30 "$bin" --config "$config" status
  row "conjured status, including its process" "20 ms" "${found[median_ms]:?} ms (at most ${found[most_ms]:?})"
  stop
}

huge() {
  local megabytes before size
  megabytes=$(amount 200 20)
  # A small render: the memory for encoding a large one would count as the mesh's ("resident a
  # minute after a job" measures it).
  simulator 0.5; config huge 1 "$work" 128; daemon; sleep "$settle"
  measure idle "$pid" 1
  before=${found[rss_mb]:?}
  probe order "$api" "{\"fault\":{\"file\":{\"product\":\"mesh\",\"content\":{\"huge\":{\"megabytes\":$megabytes}}}}}"
  job "a mountain"
  size=$(stat -c %s "$base/p0/data/generated_models/partpacker_results/result.glb")
  row "most memory while a mesh of $((size / 1000000)) MB comes in" "10 MB above idle" \
    "$(awk "BEGIN { printf \"%+.1f\", ${found[peak_mb]:?} - $before }") MB: ${found[peak_mb]:?}, idle $before, in ${found[took_s]:?} s"
  [ "$size" -ge $((megabytes * 1000000)) ] || fail "huge: the mesh has $size bytes instead of $megabytes MB"
  stop
}

end() {
  local run n at late=()
  run=$(amount 30 2)
  simulator "$run"; config end 1; daemon; sleep 2
  for ((n = 1; n <= runs; n++)); do
    measure requests "$api"
    local before=${found[count]:?}
    probe touch "$base/p0" "chair number $n"
    measure placed "$base/p0" data/generated_images/flux/flux.png data/generated_models/partpacker_results/result.glb 90
    at=${found[at]:?}
    measure requests "$api" "$at"
    [ "${found[count]:?}" -gt "$before" ] || fail "end: run $n was not sent"
    late+=("${found[late_ms]:?}")
    row "job of $run s done -> both files placed, run $n" "250 ms median, 30 calls" \
      "${found[late_ms]} ms, $((${found[status_calls]:?} + ${found[result_calls]:?})) calls"
    sleep 2
  done
  row "job of $run s done -> both files placed, median" "250 ms" \
    "$(printf '%s\n' "${late[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p") ms"
  stop
}

size() { row "release binary, stripped" "15 MB" "$(stat -c %s "$bin") bytes"; }

[ -z "$short" ] || echo 'short form: the values say nothing about the bars'
row "what" "bar" "measured"
[ $# -gt 0 ] || set -- size idle many noticed storm start huge end
for part in "$@"; do
  case $part in
    size | idle | many | noticed | storm | start | huge | end) "$part" ;;
    *) echo "there is no measurement \`$part\`" >&2; exit 64 ;;
  esac
done
if [ ${#wrong[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${wrong[@]}" >&2
  exit 1
fi
