#!/usr/bin/env bash
# `same_bits` on the quickstart, with the real program: the digest after step 40 for 1, 2, 3 and 4 ranks, and for a run that is
# stopped once step 17 is committed and resumed with 3 ranks. Prints one line a run; ends with 1 if two digests differ.
#
#   cargo build --release && tests/same_bits.sh
set -euo pipefail
cd "$(dirname "$0")/.."
everstep=${EVERSTEP:-target/release/everstep}
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
command=("$everstep" train configs/quickstart.toml --set run.steps=40 --set eval.every=0 --json)
digest() { printf '%-28s %s\n' "$2" "$("$everstep" digest --run "$runs/$1")" | tee -a "$runs/digests"; }

for ranks in ${RANKS:-1 2 3 4}; do
    "${command[@]}" --run "$runs/$ranks" --ranks "$ranks" >/dev/null 2>&1
    digest "$ranks" "$ranks ranks"
done

mkfifo "$runs/lines"
"${command[@]}" --run "$runs/divided" --ranks 2 >"$runs/lines" 2>/dev/null &
launcher=$!
while read -r line; do
    case $line in *'"step_committed"'*'"step":16'[,}]*) kill -TERM "$launcher" ;; esac
done <"$runs/lines"
wait "$launcher"
"${command[@]}" --run "$runs/divided" --ranks 3 >/dev/null 2>&1
digest divided "stopped at 17, then 3 ranks"

[ "$(awk '{print $NF}' "$runs/digests" | sort -u | wc -l)" = 1 ] || { echo "the digests differ"; exit 1; }
