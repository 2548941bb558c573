"""uscl: contrastive learning for ultrasound, in JAX and Flax."""

__version__ = "0.1.0"
