"""Recordings on disk, and batches from them. NumPy only, no JAX in this room."""
