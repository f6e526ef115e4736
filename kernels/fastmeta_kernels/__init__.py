"""fastmeta_kernels: exact meta-gradients as functions over arrays; `reference` (NumPy) and `cpu` (Numba).

Understandable and importable alone: it never imports `fastmeta`. `contract` states every signature once.
"""
