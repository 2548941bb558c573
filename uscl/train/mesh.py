"""Where arrays live: one mesh over all devices, the batch split along its single axis, everything else copied to each device."""
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from uscl.types import Batch, UserError

AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | int | None = None, *, batch: int | None = None, key: str = "batch") -> Mesh:
    """One-dimensional mesh named `data`.

    The axis is of type Auto: a program is written for the whole batch, and the compiler places the communication. So
    every image is a negative of every other whatever the number of devices, and BatchNorm sees the whole batch.

    Args:
        devices: the devices, or how many of those present; None takes all of them.
        batch: number of images in one batch, checked here because here a mistake still costs nothing.
        key: the config key that holds `batch`, for the message.

    Raises:
        UserError: more devices asked for than there are, or a batch that does not split evenly over them.
    """
    if devices is None or isinstance(devices, int):
        present = jax.devices()
        count = len(present) if devices is None else devices
        if not 1 <= count <= len(present):
            raise UserError(f"devices: {count} asked for, 1 to {len(present)} present on this machine ({present[0].platform})")
        devices = present[:count]
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    if batch is not None:
        check_batch(mesh, batch, key=key)
    return mesh


def check_batch(mesh: Mesh, batch: int, *, key: str = "batch") -> None:
    """Raises UserError, with the config key in its sentence, if so many images do not split evenly over the mesh's devices."""
    count, processes = mesh.size, len({device.process_index for device in mesh.devices.flat})
    if batch < 1 or batch % count:
        near = " or ".join(str(size) for size in (batch // count * count, (batch // count + 1) * count) if size > 0)
        devices = f"{count} devices" + (f" of {processes} processes" if processes > 1 else "")
        raise UserError(f"{key}: {batch} images do not split evenly over {devices}; allowed are multiples of {count}, such as {near}")


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of what every device holds in full: parameters, optimizer state, metrics."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose first axis counts images: each device holds its share of them."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def share(mesh: Mesh, batch: int) -> slice:
    """Rows of a batch of so many images that this process's devices hold: all of them where there is one process.

    Raises:
        ValueError: the rows do not follow one another, or this process has no device in the mesh.
    """
    places = batch_sharding(mesh).addressable_devices_indices_map((batch,)).values()
    rows = sorted({place.indices(batch)[:2] for (place,) in places})
    if not rows or any(end != start for (_, end), (start, _) in zip(rows, rows[1:], strict=False)):
        raise ValueError(f"process {jax.process_index()} holds the rows {rows} of {batch}, which are no slice")
    return slice(rows[0][0], rows[-1][1])


def put_batch(mesh: Mesh, batch: Batch) -> dict[str, jax.Array]:
    """Moves a NumPy batch to the devices, split along the first axis of each of its arrays, [N, ...].

    Each of several processes passes its `share` of the rows, and all of them get the whole batch.
    The transfer is explicit, because the loop forbids implicit ones; it does not wait for the copy to end.
    """
    here = batch_sharding(mesh)
    if here.is_fully_addressable:
        return jax.device_put(dict(batch), here)
    times = mesh.size // mesh.local_mesh.size
    with jax.transfer_guard_host_to_device("allow"):  # the loop's guard takes this call for an implicit transfer
        return {name: jax.make_array_from_process_local_data(here, x, (len(x) * times, *x.shape[1:])) for name, x in batch.items()}


def put_replicated(mesh: Mesh, tree):
    """Copies a tree to every device. Always a real copy: the step donates its state, and the caller's arrays must survive.

    Several processes pass the same values; JAX checks that they are.
    """
    # In two calls: where a call moves data as well, JAX 0.10 lets the copy on the device of origin share the memory.
    return jax.device_put(jax.device_put(tree, replicated(mesh)), replicated(mesh), may_alias=False)


def take_home(mesh: Mesh, tree):
    """A replicated tree for work outside the mesh: NumPy where there are several processes, otherwise the tree as it is.

    Of arrays that other processes hold as well, JAX computes only inside a jit that all of them call.
    """
    return tree if replicated(mesh).is_fully_addressable else jax.device_get(tree)


def cache_folder() -> Path:
    """The user's own cache folder for uscl. Compiled programs are code: a folder others can write to would run theirs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uscl"


def enable_compilation_cache(folder: Path | str | None = None) -> Path | None:
    """Keeps compiled programs on disk, so that the same command starts at once the second time, on CPU as on GPU.

    JAX settles whether it uses a cache at its first compilation: call this before any.

    Args:
        folder: where to keep them; None is `jax` inside `cache_folder()`, unless JAX_COMPILATION_CACHE_DIR says otherwise.

    Returns:
        The folder in use, or None where it can't be written, which costs time and nothing else.
    """
    if folder is None and jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    folder = Path(folder) if folder is not None else cache_folder() / "jax"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only what took a second to compile is kept; a study of many short runs pays for the small ones as well.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
