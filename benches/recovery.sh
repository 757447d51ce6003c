#!/usr/bin/env bash
# A rank dies, and then? Everstep, torchrun and torchft in turn, the same number of ranks on this machine, steps of about 40 ms: each line
# says how long after SIGKILL the next step is made, how long until the killed rank's successor computes, and what was lost.
# The load stands before each turn.
#
#   python3 -m venv peers && peers/bin/pip install torch torchvision numpy torchft-nightly
#   cargo build --release && PEERS=peers/bin/python benches/recovery.sh [PROGRAM]
set -euo pipefail
benches=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:-$benches/../target/release/everstep}")
python=${PEERS:-python3}
python=$(realpath --no-symlinks "$(command -v "$python")")
ranks=${RANKS:-2}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
turn() {
    printf '\n== load %s: %s\n' "$(cut -d' ' -f1 /proc/loadavg)" "$(basename "$2") ${*:3}"
    "$@"
}
for _ in 1 2; do
    turn "$python" "$benches/recovery.py" "$program" "$benches/recovery.toml" --ranks "$ranks" --kills "${KILLS:-20}"
    for peer in torchrun torchft; do
        for tuned in "" --tuned; do
            turn "$python" "$benches/peers/${peer}_kill.py" --ranks "$ranks" --kills "${PEER_KILLS:-5}" $tuned
        done
    done
done
