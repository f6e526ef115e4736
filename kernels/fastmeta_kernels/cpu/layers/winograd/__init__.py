"""Convolutions of stride 1 by Winograd's small products."""
