#!/usr/bin/env bash
# wandb 0.31.0: what is left of an offline run whose process is killed?
#
# Guess: all that was logged, but for the last second: a run without a network is a file that is appended to.
# Seen:  nothing. Its other process holds the records in memory until 32 KiB are full or the run ends, and ends with the
#        first one: of five steps and ten seconds the file has its seven bytes of header.
#
#   killed 10 s after the last of 5 steps: 7 bytes
#   finished: more than 1,000 bytes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q --disable-pip-version-check install 'wandb==0.31.0'
cd "$folder"
cat > run.py <<'PY'
import os
import sys
import time

os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
import wandb

run = wandb.init(project="p", id=sys.argv[1])
for step in range(1, 6):
    run.log({"train_loss": 1.0 / step}, step=step)
if sys.argv[1] == "killed":
    time.sleep(10)
    os.kill(os.getpid(), 9)
run.finish()
PY
venv/bin/python run.py killed || true
venv/bin/python run.py finished
sleep 3
killed=$(stat -c %s wandb/offline-run-*-killed/run-killed.wandb)
finished=$(stat -c %s wandb/offline-run-*-finished/run-finished.wandb)
echo "killed: $killed bytes; finished: $finished bytes"
test "$killed" -eq 7 && test "$finished" -gt 1000
