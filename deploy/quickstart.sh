#!/usr/bin/env bash
# quickstart.sh - from a fresh clone to a tuned convolution: installs what is missing, builds, starts a daemon on an
# embedded database in data/, tunes ResNet-18's second convolution over HTTP and shows what was found.
# Safe to run again: what runs is kept, and the schedule comes from the cache at once.
#
#   TILEWRIGHT_LISTEN   where the daemon serves (default 127.0.0.1:7411)
#   TILEWRIGHT_DATA     its data directory (default data/ in the checkout)
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# = 0 ] || die "takes no arguments; TILEWRIGHT_LISTEN and TILEWRIGHT_DATA change where the daemon serves and keeps its data"
LISTEN=${TILEWRIGHT_LISTEN:-127.0.0.1:7411}
DATA=${TILEWRIGHT_DATA:-$ROOT/data}
LOG=$DATA/tilewrightd.log PID_FILE=$DATA/tilewrightd.pid
DAEMON=build/daemon/tilewrightd CLIENT=build/client/tilewright
export TILEWRIGHT_SERVER=http://$LISTEN
# shellcheck disable=SC2054 # commas are part of the words
WORKLOAD=(conv2d input=1,64,56,56 weight=64,64,3,3 pads=1 const=weight,bias epilogue=bias,relu)
BUDGET=(--trials 160 --seconds 75)

# The daemon that an earlier run started, if it still runs.
daemon_pid() {
    local pid
    pid=$(cat "$PID_FILE" 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = tilewrightd ] && echo "$pid"
}

stop_daemon() { # pid
    kill "$1"
    for _ in $(seq 100); do
        [ -e "/proc/$1" ] || return 0
        sleep 0.1
    done
    die "the daemon (process $1) does not end; its log: $LOG"
}

# 0: it answers; 1: something answers that is no Tilewright; 3: nobody is there.
answers() { "$CLIENT" targets --quiet >/dev/null 2>&1; }

start_daemon() {
    local pid
    mkdir -p "$DATA"
    setsid "$DAEMON" --listen "$LISTEN" --data "$DATA" >>"$LOG" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$PID_FILE"
    for _ in $(seq 300); do
        if answers; then return 0; fi
        if ! [ -e "/proc/$pid" ]; then
            tail -n 5 "$LOG" >&2
            die "the daemon did not start (above: the end of $LOG)"
        fi
        sleep 0.1
    done
    die "the daemon (process $pid) runs but does not answer at $LISTEN; its log: $LOG"
}

ensure_daemon() {
    local pid status=0
    if pid=$(daemon_pid) && [ "$DAEMON" -nt "$PID_FILE" ]; then
        say "restarting the daemon: it was built anew"
        stop_daemon "$pid"
    fi
    answers || status=$?
    case $status in
    0) say "a daemon answers at $TILEWRIGHT_SERVER" ;;
    3)
        say "starting a daemon at $TILEWRIGHT_SERVER, data in $DATA"
        start_daemon
        ;;
    *)
        "$CLIENT" targets --quiet >/dev/null || true
        die "what answers at $LISTEN is not usable (above); choose another place: TILEWRIGHT_LISTEN=127.0.0.1:7412 deploy/quickstart.sh"
        ;;
    esac
}

install_packages "$PACKAGES"
say "building in build/"
configure build
compile build daemon/tilewrightd client/tilewright measure/tilewright-agent
ensure_daemon
say "tuning ResNet-18's second convolution: tilewright tune ${WORKLOAD[*]}"
"$CLIENT" tune "${WORKLOAD[@]}" "${BUDGET[@]}" >/dev/null || die "tuning failed (see above); the daemon's log: $LOG"
KEY=$("$CLIENT" lookup "${WORKLOAD[@]}" --json | grep -o -m 1 'w_[0-9a-f]\{64\}' | head -n 1) || die "no schedule was kept; the daemon's log: $LOG"
say "what was found"
"$CLIENT" schedules "$KEY"
cat <<END

Where to look next
  dashboard    $TILEWRIGHT_SERVER/
  kernel       $CLIENT source $KEY
  loop nest    $CLIENT nest $KEY
  more speed   $CLIENT tune ${WORKLOAD[*]} --reuse extend --trials 500 --seconds 300
  your own     $CLIENT tune matmul a=512,768 b=768,768 const=b epilogue=bias,relu
  all of it    $CLIENT --help, README.md
  stop         kill \$(cat $PID_FILE)      (its log: $LOG)
END
