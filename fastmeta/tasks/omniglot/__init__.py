"""Omniglot as tasks."""
