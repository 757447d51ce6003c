#!/usr/bin/env bash
# Sets libtorch up in this folder for `cargo … --features tch`: about 0.9 GB to fetch, 0.5 GB on disk, no GPU and no Python environment needed.
#
#   ./libtorch.sh
#   cargo run --release --features tch -- train configs/quickstart.toml --device libtorch:cpu
#
# It computes on the processor. To compute on CUDA devices build against a PyTorch 2.9 that has them instead, without this script:
#
#   LIBTORCH_USE_PYTORCH=1 cargo run --release --features tch -- train … --device libtorch:cuda:0
#
# The wheel of PyPI is built with CUDA. What of it computes on the processor is kept (libtorch_cpu, libc10, libgomp, the headers, and the two small
# NVIDIA libraries that libtorch_cpu is linked with); libtorch.so, which would pull in the rest, is replaced by one that needs libtorch_cpu alone.
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
if [ -f "$root/libtorch/build-version" ] && [ -f "$root/.cargo/config.toml" ]; then
    echo "libtorch $(cat "$root/libtorch/build-version") is set up already; remove $root/libtorch to fetch it again"
    exit 0
fi
for tool in python3 gcc; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: install it, then run this script again" >&2; exit 1; }
done
python3 -m pip --version >/dev/null 2>&1 || { echo "python3 has no pip: install it (python3-pip), then run this script again" >&2; exit 1; }
tmp=$(mktemp -d "$root/.libtorch.XXXX")
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/wheels" <<'WHEELS'
torch==2.9.0 --hash=sha256:51de31219c97c51cf4bf2be94d622e3deb5dcc526c6dc00e97c17eaec0fc1d67
nvidia-cuda-runtime-cu12==12.8.90 --hash=sha256:adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90
nvidia-cuda-cupti-cu12==12.8.90 --hash=sha256:ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182
WHEELS
echo "fetching libtorch 2.9.0 (0.9 GB)"
python3 -m pip download --quiet --no-deps --no-cache-dir --only-binary=:all: --implementation cp --python-version 3.11 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --require-hashes --requirement "$tmp/wheels" --dest "$tmp" || {
    echo "libtorch cannot be fetched: see what pip says above, and give it an index that it reaches (PIP_INDEX_URL)" >&2
    exit 69
}
python3 - "$tmp" "$tmp/libtorch" <<'UNPACK'
import glob, os, shutil, sys, zipfile

source, target = sys.argv[1:]
wanted = {
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cuda_cupti/lib/libcupti.so.12",
    "nvidia/cuda_runtime/lib/libcudart.so.12",
}
for wheel in glob.glob(source + "/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("torch/include/") and not name.endswith("/"):
                path = name.removeprefix("torch/")
            elif name in wanted:
                path = "lib/" + os.path.basename(name)
            else:
                continue
            path = os.path.join(target, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(name) as packed, open(path, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 22)
UNPACK
gcc -shared -x c - -o "$tmp/libtorch/lib/libtorch.so" -Wl,-soname,libtorch.so -Wl,--no-as-needed -L"$tmp/libtorch/lib" -ltorch_cpu \
    -Wl,-rpath,'$ORIGIN' </dev/null
echo 2.9.0 >"$tmp/libtorch/build-version"
rm -rf "$root/libtorch"
mv "$tmp/libtorch" "$root/libtorch"
mkdir -p "$root/.cargo"
cat >"$root/.cargo/config.toml" <<'CONFIG'
# Written by libtorch.sh. The path counts from the folder above this one.
[env]
LIBTORCH = { value = "libtorch", relative = true }
CONFIG
echo "libtorch 2.9.0 is set up in $root/libtorch ($(du -sh "$root/libtorch" | cut -f1)); build with --features tch"
