#!/usr/bin/env bash
# Everstep and what it is compared with, in turn, on the same work: step, step of two ranks, loader, checkpoint, kNN, Sinkhorn,
# exchange, optimizer. Run it on a quiet machine; the load stands before each turn. Steps run on one core and then on two, everything else on one thread unless a bench says otherwise.
#
#   python3 -m venv peers && peers/bin/pip install torch torchvision pillow numpy
#   PEERS=peers/bin/python benches/side-by-side.sh [PHOTOS.tar]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PEERS:-python3}
photos=${1:-../shared/data/photos.tar}
export OMP_NUM_THREADS=1
turn() {
    printf '\n== load %s: %s\n' "$(cut -d' ' -f1 /proc/loadavg)" "$*"
    "$@"
}
# Where ./libtorch.sh has been run, libtorch is measured beside flex.
features=()
if [ -d libtorch ]; then features=(--features tch); fi
cargo bench --no-run
cargo bench "${features[@]}" --bench step --no-run
for _ in 1 2; do
    for cores in 0 0,1; do
        turn taskset -c "$cores" cargo bench "${features[@]}" --bench step
        for net in tiny 400mf; do
            turn taskset -c "$cores" "$python" benches/peers/step.py --net "$net" --threads "$(tr ',' '\n' <<<"$cores" | wc -l)"
        done
    done
    turn env PEERS="$python" python3 benches/sharded.py --rounds 3
    turn cargo bench --bench loader
    if [ -f "$photos" ]; then turn "$python" benches/peers/loader.py --tar "$photos" --runs 2; fi
    turn cargo bench --bench checkpoint
    turn "$python" benches/peers/dcp_save.py
    turn cargo bench --bench knn
    turn "$python" benches/peers/knn.py
    turn cargo bench --bench sinkhorn
    turn "$python" benches/peers/sinkhorn.py
    turn cargo bench --bench exchange
    turn "$python" benches/peers/gloo.py
    turn cargo bench --bench optimizer
done
