#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one call of under ten minutes: tests, sanitizers, times.
# Needs a Python with CuPy (and pytest, hypothesis; JAX and PyTorch with CUDA as peers): PYTHON=... benchmarks/on_gpu.sh [FOLDER]
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
timeout 180 "$python" -m pytest -q -p no:cacheprovider tests/kernels/cuda/test_cuda.py tests/kernels/cuda/test_cuda_precision.py \
    tests/kernels/cuda/test_cuda_prototypes.py tests/kernels/cuda/test_cuda_training.py -k on_device || failed=1

echo "== two ranks: by NCCL, or why through the host"
timeout 120 "$python" -m pytest -q -s -p no:cacheprovider tests/ranks/test_gpus.py -m gpu || failed=1

echo "== memory and race checks on small rows"
for tool in memcheck racecheck; do
    if command -v compute-sanitizer >/dev/null; then
        timeout 50 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m benchmarks.gpu --check || failed=1
    else
        echo "compute-sanitizer is not installed: $tool was not run"
    fi
done

echo "== times on the device"
timeout 200 "$python" -m benchmarks.gpu --seconds 0.3 --out "$out/gpu.json" || failed=1

echo "== against other programs"
timeout 110 "$python" -m benchmarks.run sinusoid-1000x5 omniglot-q5-s5 --device cuda --peers numpy,jax,torch --seconds 1 \
    --peers-python "$(command -v "$python")" --out "$out/times-gpu.json" || failed=1
exit "$failed"
