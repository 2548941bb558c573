"""Finds where in a network numbers stop being numbers."""
import contextlib
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp


@contextlib.contextmanager
def watch() -> Iterator[list[tuple[str, jax.Array]]]:
    """Inside, every call of a module notes whether all it returns is finite: (path, bool []) in the order in which they return.

    So the first False is the innermost module that went wrong first. Works under `jit` if the notes leave it by the function's return
    value; not around networks with `remat`, whose inner values live in a program of their own.
    """
    notes: list[tuple[str, jax.Array]] = []

    def note(call, args, options, context):
        out = call(*args, **options)
        if context.method_name not in ("setup", "init"):
            finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(out) if isinstance(leaf, jax.Array)]
            if finite:  # a method that returns submodules has nothing to be looked at
                notes.append(("/".join(context.module.path) or "the model", jnp.array(finite).all()))
        return out

    with nn.intercept_methods(note):
        yield notes
