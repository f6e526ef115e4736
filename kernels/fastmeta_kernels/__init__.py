"""fastmeta_kernels: exact meta-gradients as functions over arrays; `reference` (NumPy), `cpu` (Numba), `cuda` (CuPy).

Understandable and importable alone: it never imports `fastmeta`. `contract` states every signature once.
"""
