"""Batch norm: values, tangents, and both with ReLU and max-pool behind them."""
