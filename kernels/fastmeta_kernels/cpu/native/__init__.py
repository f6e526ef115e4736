"""The kernels as a shared library, built ahead of time: for wheels. Nothing here is imported by a call."""
