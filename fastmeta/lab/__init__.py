"""Instruments: what is asked of a meta-gradient."""
