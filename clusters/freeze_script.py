"""The shell script that holds a service still in its own container, and lets it go whatever happens.

It needs `sh`, `sleep`, `head` and `cat` (coreutils, busybox) and a `/proc`, and writes nothing to a disk.

What it says on stdout, a line each:

- `begun`: the time runs;
- `holding`: quiesce has ended with status 0;
- `thawed MS TRIES REASON`: thaw has ended with status 0 at that try, MS milliseconds after `begun`;
- `stuck MS TRIES REASON`: no try did, and there will be no other;
- `busy`: an earlier freeze of this container did not end; nothing was begun.

REASON is what ended the hold: `asked`, `cut` (the end of stdin), `limit`, `signal`, `failed STATUS` (of
quiesce), `killed` (the process that held) or `unguarded` (the one beside it was). On stderr: the first bytes
of what each hook says.
"""

from typing import Final

NAME: Final = "perdure-freeze"
"""What the script's processes are called: at most 15 characters. The next freeze waits for them."""
TRIES: Final = 6
SECONDS_PER_TRY: Final = 10
_WORDS: Final = 4096
"""Bytes of each hook's words that are passed on: less than a pipe holds, so that nobody can be held up by a
client that does not read."""

_COMMON: Final = f"""
now() {{
  read -r up _ </proc/uptime
  now=$((${{up%.*}} * 100 + 1${{up#*.}} - 100))
}}

nap() {{ sleep 0.1 || sleep 1; }}

held_by_another() {{
  for each in /proc/[0-9]*/stat; do
    read -r line <"$each" || continue
    case $line in *"({NAME})"*) ;; *) continue ;; esac
    pid=${{line%% *}}
    set -- ${{line##*) }}
    [ "$1" != Z ] && [ "$3" != $$ ] || continue
    [ "$born" = any ] || [ "${{20}}" -lt "$born" ] || {{ [ "${{20}}" = "$born" ] && [ "$pid" -lt $$ ]; }} ||
      continue
    return 0
  done
  return 1
}}
"""

HOLD: Final = (
    _COMMON
    + f"""
seconds=$1 quiesce=$2 thaw=$3 holder=
exec 3<&0 4>&2 </dev/null 2>/dev/null
trap '[ -z "$holder" ] || kill -TERM "$holder"' TERM HUP INT
trap : PIPE

hook() {{
  {{ sh -c "$2" </dev/null 3<&- 5>&-; echo "$1 $?" >&5; }} 2>&1 4>&- | {{
    trap '' TERM
    head -c {_WORDS} >&4
    exec cat >/dev/null 4>&-
  }} >/dev/null 3<&- 5>&- &
  drain=$!
}}

ended() {{
  read -r line <"/proc/$1/stat" || return 0
  set -- ${{line##*) }}
  [ "$1" = Z ]
}}

pause() {{
  sleep "$1" >/dev/null 3<&- 4>&- 5>&- & sleeping=$!
  [ -z "$2" ] || echo "$2" >&5
  if [ -z "$over" ] && wait "$sleeping"; then return 0; fi
  trap '' TERM
  kill "$sleeping"
  wait "$sleeping"
  exit 0
}}

timer() {{
  {{
    over=
    trap 'over=yes' TERM
    pause "$1" "set $2"
    echo "$2" >&5
  }} 3<&- 4>&- &
  timer=$!
}}

watch() {{
  {{
    over=
    trap 'over=yes' TERM
    while now && [ "$now" -lt $((began + seconds * 100)) ]; do
      if ended $$; then echo unguarded >&5; exit 0; fi
      pause 1 ''
    done
    echo limit >&5
  }} 3<&- 4>&- &
  watcher=$!
}}

listen() {{
  {{
    while read -r word <&3; do
      [ "$word" != thaw ] || echo asked >&5
    done
    echo cut >&5
  }} 4>&- &
  listener=$!
}}

end_the_rest() {{
  now
  since=$now looks=0 calm=
  while :; do
    kill $listener $watcher $timer
    all=
    for each in /proc/[0-9]*/stat; do
      read -r line <"$each" || continue
      pid=${{line%% *}}
      set -- ${{line##*) }}
      [ "$3" != $$ ] || all="$all$pid:$2 $1 "
    done
    left= others= leaves=
    now
    set -- $all
    while [ $# -gt 0 ]; do
      pid=${{1%:*}} state=$2
      shift 2
      case $pid in $$ | "$self") continue ;; esac
      [ "$state" != Z ] || continue
      left=yes
      case " $listener $watcher $timer " in *" $pid "*) continue ;; esac
      others=yes
      if [ $((now - since)) -ge 300 ]; then
        kill -KILL "$pid"
      elif [ $((now - since)) -ge 200 ]; then
        kill -TERM "$pid"
      else
        case $all in *":$pid "*) continue ;; esac
        leaves="$leaves $pid "
        case $calm in *" $pid "*) kill -TERM "$pid" ;; esac
      fi
    done
    calm=$leaves
    [ -n "$left" ] || break
    looks=$((looks + 1))
    if [ -n "$others" ] || [ "$looks" -ge 10 ]; then nap; fi
  done
  wait
  listener= watcher= timer=
}}

next_event() {{
  until read -r event detail; do :; done
}}

finish() {{
  looks=0
  while [ "$looks" -lt 20 ]; do
    kill "$timer"
    if ended "$timer" && ended "$drain"; then wait; break; fi
    looks=$((looks + 1))
    nap
  done
  exit 0
}}

let_go() {{
  tries=0
  while [ "$tries" -lt {TRIES} ]; do
    end_the_rest
    [ "$tries" = 0 ] || sleep "$tries"
    tries=$((tries + 1))
    timer {SECONDS_PER_TRY} "slow-$tries"
    until [ "$event $detail" = "set slow-$tries" ]; do next_event; done
    hook "thaw-$tries" "$thaw"
    while :; do
      next_event
      case $event in "thaw-$tries" | "slow-$tries") break ;; esac
    done
    now
    if [ "$event $detail" = "thaw-$tries 0" ]; then
      echo "thawed $(((now - began) * 10)) $tries $1"
      finish
    fi
  done
  end_the_rest
  now
  echo "stuck $(((now - began) * 10)) $tries $1"
  exit 0
}}

prepare() {{
  event= detail= listener= watcher= timer=
  read -r self _ </proc/self/stat
  exec 5>/proc/self/fd/0
  trap 'echo signal >&5' TERM HUP INT
  trap : PIPE
}}

hold() {{
  prepare
  listen
  watch
  hook quiesce "$quiesce"
  while :; do
    next_event
    case "$event $detail" in
      "quiesce 0") echo holding ;;
      quiesce\\ *) let_go "failed $detail" ;;
      asked* | cut* | limit* | signal* | unguarded*) let_go "$event" ;;
    esac
  done
}}

pick_up() {{
  prepare
  let_go killed
}}

printf {NAME} >/proc/self/comm
read -r line </proc/self/stat
born=$(set -- ${{line##*) }}; echo "${{20}}")
now
until=$((now + seconds * 100))
while held_by_another; do
  now
  if [ "$now" -ge "$until" ]; then echo busy; exit 0; fi
  nap
done
now
began=$now
echo begun

turn=hold rounds=0
while [ "$rounds" -lt {TRIES} ]; do
  rounds=$((rounds + 1))
  : | "$turn" &
  holder=$!
  while :; do
    wait "$holder"
    status=$?
    kill -0 "$holder" || break
  done
  [ "$status" != 0 ] || exit 0
  turn=pick_up
done
now
echo "stuck $(((now - began) * 10)) 0 killed"
"""
)
"""Arguments: the seconds after which it thaws by itself, and both hooks as shell text.

Two processes guard each other. One holds: it hears of everything by a pipe that it reads and everybody around
it writes into, so that nothing can be missed while something else is waited for. The other, which the runtime
has started, waits for it: when the first is killed, it starts another that thaws. The first looks each second
whether the other is there.

What quiesce has left running is ended before thaw runs, or it could freeze what was just thawed; those
without children first, for the reason that `clusters.execution` gives: one that has a dead child is still to
take note of it, and one that had no child at two looks is not just about to start another. A process that has
left the group of the exec (`setsid`) is not found.

A timer says when it is set: a signal that comes before that is lost, and one that comes just then may be.
What thaw has started goes on.

Hooks do not write to the exec's own streams: where the other side is gone, or does not read, they would die
of it or stand still.
"""

MAKE_SURE: Final = (
    _COMMON
    + f"""
seconds=$1 thaw=$2 born=any
now
until=$((now + seconds * 100))
while held_by_another 2>/dev/null; do
  now
  if [ "$now" -ge "$until" ]; then echo 'an earlier freeze does not end' >&2; exit 75; fi
  nap
done
tries=0
until sh -c "$thaw"; do
  status=$?
  tries=$((tries + 1))
  now
  if [ "$tries" -ge {TRIES} ] || [ "$now" -ge "$until" ]; then exit "$status"; fi
  sleep "$tries"
done
"""
)
"""Waits until nothing holds this container still any more, and thaws once more. For `Cluster.execute`."""
