# Background processes with a pid file, a log and a port each; sourced by scripts/services.sh.
#
# The caller sets $run (pid files, ports), $logs and the array preferred_port:
# shellcheck shell=bash disable=SC2154

say() { echo "services: $*" >&2; }

die() { # MESSAGE [HINT...]
    say "$1"
    shift
    for hint in "$@"; do echo "  try: $hint" >&2; done
    exit 1
}

digest_of() { cat "$@" | sha256sum | cut -c 1-16; }

# --- one process ---

# A pid alone may have been given to another process since: pid and start time together are ours. A zombie has none:
# in a container whose first process reaps nobody, it would seem to run for ever.
start_time() { # PID
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    read -ra fields <<<"${stat##*) }" # what follows the name, which may hold spaces and brackets
    [[ ${fields[0]} == [ZX] ]] || echo "${fields[19]}"
}

running_pid() { # NAME: prints its pid, or fails when it does not run
    local pid started
    read -r pid started 2>/dev/null <"$run/$1.pid" || return 1
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] || return 1
    echo "$pid"
}

# Start a program that outlives this script: in a session of its own, with no file of the caller kept open (our lock
# and the pipe of `make test | cat` among them).
start() { # NAME COMMAND...
    local name=$1 pid
    shift
    if [ -f "$logs/$name.log" ]; then mv "$logs/$name.log" "$logs/$name.log.1"; fi
    (
        cd /
        for fd in "/proc/$BASHPID/fd/"*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-"
        done
        exec setsid "$@"
    ) </dev/null >"$logs/$name.log" 2>&1 &
    pid=$!
    echo "$pid $(start_time "$pid")" >"$run/$name.pid"
}

stop() { # NAME
    local name=$1 pid i
    if pid=$(running_pid "$name"); then
        say "stopping $name (pid $pid)"
        kill "$pid" 2>/dev/null || true
        for ((i = 0; i < 150; i++)); do
            running_pid "$name" >/dev/null || break
            sleep 0.1
        done
        if running_pid "$name" >/dev/null; then
            say "$name does not end within 15 s, killing it"
            kill -KILL "$pid" 2>/dev/null || true
            sleep 0.5
        fi
    fi
    rm -f "$run/$name.pid" "$run/$name.settings"
}

show_log() { # NAME: what it said first, and last
    local log=$logs/$1.log
    if [ "$(wc -l <"$log")" -le 20 ]; then
        cat "$log" >&2
    else
        { head -n 6 "$log"; echo ...; tail -n 12 "$log"; } >&2
    fi
}

# Keep a service that runs with the settings wanted and answers; else start it (again) and wait until it does.
ensure() { # NAME SECONDS CHECK SETTINGS COMMAND...
    local name=$1 seconds=$2 check=$3 settings=$4 i
    shift 4
    if running_pid "$name" >/dev/null; then
        if [ "$(cat "$run/$name.settings" 2>/dev/null)" = "$settings" ] && "$check" "$name"; then
            return 0
        fi
        say "$name runs with other settings or does not answer: starting it again"
        stop "$name"
    fi
    say "starting $name"
    start "$name" "$@"
    echo "$settings" >"$run/$name.settings"
    for ((i = 0; i < seconds * 10; i++)); do
        sleep 0.1
        if ! running_pid "$name" >/dev/null; then
            say "$name ended at once; from $logs/$name.log:"
            show_log "$name"
            rm -f "$run/$name.pid" "$run/$name.settings"
            return 1
        fi
        if "$check" "$name"; then return 0; fi
    done
    say "$name does not answer after $seconds s; from $logs/$name.log:"
    show_log "$name"
    return 1
}

# --- ports ---

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

port() { cat "$run/$1.port"; }

# Ports stay the same from run to run, since they are part of image names. One that another program has taken while
# ours was down is given up.
choose_port() { # NAME
    local name=$1 first=${preferred_port[$1]} wanted candidate
    if running_pid "$name" >/dev/null && [ -s "$run/$name.port" ]; then return 0; fi
    wanted=$(cat "$run/$name.port" 2>/dev/null || echo "$first")
    for candidate in "$wanted" $(seq "$first" 100 $((first + 2000))); do
        if port_open "$candidate"; then continue; fi
        if [ "$candidate" != "$wanted" ]; then
            say "port $wanted is taken by another program: $name gets $candidate"
        fi
        echo "$candidate" >"$run/$name.port"
        return 0
    done
    die "no free port for $name: $wanted and every 100th from $first on are taken" "ss -ltnp shows what listens there"
}

http_status() { # PORT PATH: prints the status code
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$2" "$1" >&3
        read -r -t 3 _ code _ <&3 && echo "$code"
    ) 2>/dev/null
}
