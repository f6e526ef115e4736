#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one call of under ten minutes: tests, sanitizers, times.
# Needs a Python with CuPy (and pytest, hypothesis; JAX with CUDA as a peer): PYTHON=... benchmarks/on_gpu.sh [FOLDER]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
out="${1:-benchmarks/results}"
mkdir -p "$out"
export PYTHONPATH="$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}"
failed=0

echo "== machine"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
"$python" -c "import cupy; cupy.show_config()" | head -n 20

echo "== the CUDA backend against the reference"
timeout 180 "$python" -m pytest -q -p no:cacheprovider tests/kernels/test_cuda.py -k on_device || failed=1

echo "== memory and race checks on small rows"
for tool in memcheck racecheck; do
    if command -v compute-sanitizer >/dev/null; then
        timeout 80 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m benchmarks.gpu --check || failed=1
    else
        echo "compute-sanitizer is not installed: $tool was not run"
    fi
done

echo "== times"
timeout 200 "$python" -m benchmarks.gpu --seconds 0.5 --out "$out/gpu.json" || failed=1
exit "$failed"
