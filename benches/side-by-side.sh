#!/usr/bin/env bash
# Everstep and what it is compared with, in turn, on the same work: loader, checkpoint, kNN, Sinkhorn. Run it on a quiet machine;
# one thread a process unless a bench says otherwise.
#
#   python3 -m venv peers && peers/bin/pip install torch torchvision pillow numpy scikit-learn safetensors
#   PEERS=peers/bin/python benches/side-by-side.sh [PHOTOS.tar]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PEERS:-python3}
photos=${1:-../shared/data/photos.tar}
export OMP_NUM_THREADS=1
turn() { printf '\n== %s\n' "$*"; "$@"; }
for _ in 1 2; do
    turn cargo bench --bench loader
    [ -f "$photos" ] && turn "$python" benches/peers/loader.py --tar "$photos" --runs 2
    turn cargo bench --bench checkpoint
    turn "$python" benches/peers/dcp_save.py
    turn cargo bench --bench knn
    turn "$python" benches/peers/knn.py
    turn cargo bench --bench sinkhorn
    turn "$python" benches/peers/sinkhorn.py
done
