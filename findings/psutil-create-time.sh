#!/usr/bin/env bash
# psutil 7.2.2 on Linux: is Process.create_time() the same for one process at any later time?
#
# Guess: yes; it is told as the time of the process's start, and (pid, create_time) is the usual identity of a process.
# Seen:  it is the boot time by the wall clock (btime in /proc/stat) and the kernel's ticks since then. When the clock is
#        set, btime moves with it, and so does the time of every process that runs: a stored pair finds its process gone.
#        Here a copy of /proc/stat with another btime stands for a clock that was set an hour back (psutil.PROCFS_PATH).
#
#   the clock set back by 3600 s: create_time of the same process is 3600.0 s less; its start in ticks is the same
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'psutil==7.2.2'
mkdir "$folder/proc"
awk '$1 == "btime" { $2 -= 3600 } { print }' /proc/stat > "$folder/proc/stat"
sleep 60 &
sleeper=$!
trap 'kill "$sleeper"; rm -rf "$folder"' EXIT
ln -s "/proc/$sleeper" "$folder/proc/$sleeper"
"$folder/venv/bin/python" - "$folder/proc" "$sleeper" <<'PY'
import subprocess
import sys

TOLD = "import psutil, sys; psutil.PROCFS_PATH = sys.argv[1]; print(psutil.Process(int(sys.argv[2])).create_time())"


def create_time(proc):
    told = subprocess.run([sys.executable, "-c", TOLD, proc, sys.argv[2]], capture_output=True, text=True, check=True)
    return float(told.stdout)


def ticks(proc):
    with open(f"{proc}/{sys.argv[2]}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[19]


before, after = create_time("/proc"), create_time(sys.argv[1])
print("create_time", before, "and", after, "- ticks", ticks("/proc"), "and", ticks(sys.argv[1]))
assert before - after == 3600.0
assert ticks("/proc") == ticks(sys.argv[1])
PY
