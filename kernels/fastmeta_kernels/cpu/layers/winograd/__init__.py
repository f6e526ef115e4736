"""Convolutions of 3 x 3 taps by Winograd's small products."""
