"""How near a stage came to what its device can do, told once at its end.

A program of F operations and B bytes of memory traffic cannot be faster than max(F / peak rate, B / bandwidth): the roofline. The share
of it that was reached is that time over the measured one.
"""
from typing import Any, NamedTuple

import jax


class Peak(NamedTuple):
    """What a device can do at most.

    Attributes:
        half: bfloat16 operations a second, with float32 sums, dense.
        single: float32 operations a second as XLA runs them by default: TF32 where the device has it.
        bandwidth: bytes a second between the device's memory and its cores.
    """

    half: float
    single: float
    bandwidth: float


# Nominal figures, dense; hold a share that surprises you against the maker's data sheet. The first name that the device's own name
# contains counts, so longer ones stand first.
# Volta and Turing have no bfloat16: their rate is that of float32.
PEAKS = {
    "B200": Peak(2250e12, 1125e12, 8.0e12),
    "H200": Peak(989e12, 494e12, 4.8e12),
    "H100 PCIe": Peak(756e12, 378e12, 2.0e12),
    "H100": Peak(989e12, 494e12, 3.35e12),
    "A100-SXM4-80GB": Peak(312e12, 156e12, 2.04e12),
    "A100 80GB": Peak(312e12, 156e12, 1.94e12),
    "A100": Peak(312e12, 156e12, 1.56e12),
    "L40S": Peak(362e12, 183e12, 864e9),
    "RTX A6000": Peak(155e12, 77.4e12, 768e9),
    "RTX 4090": Peak(165e12, 82.6e12, 1008e9),
    "RTX 3090": Peak(71e12, 35.6e12, 936e9),
    "RTX 3060": Peak(25.6e12, 12.7e12, 360e9),
    "RTX 2060": Peak(6.5e12, 6.5e12, 336e9),
    "V100": Peak(15.7e12, 15.7e12, 900e9),
    "T4": Peak(8.1e12, 8.1e12, 320e9),
}


def peak_of(kind: str) -> Peak | None:
    """The entry of a device by the name JAX gives it, such as `NVIDIA H100 80GB HBM3`; None for one the table lacks."""
    return next((peak for name, peak in PEAKS.items() if name in kind), None)


def share(seconds: float, *, flops: float, traffic: float, rate: float, bandwidth: float) -> tuple[float, str]:
    """Part of the roofline that was reached, and which side of it binds: "arithmetic" or "bandwidth".

    share = max(flops / rate, traffic / bandwidth) / seconds, all for one update on one device.

    Known values: 2e12 operations in 4 s at 1e12 a second: 0.5, arithmetic; 3e9 bytes in 3 s at 1e10 a second: 0.1, bandwidth.
    """
    arithmetic, memory = flops / rate, traffic / bandwidth
    return max(arithmetic, memory) / seconds, "arithmetic" if arithmetic >= memory else "bandwidth"


def cost(lowered, devices: int) -> tuple[float, float]:
    """(operations, bytes of memory traffic) of one call on one device.

    The operations are those of the program as it was written, because compiled convolutions are calls into libraries that may count as
    nothing; the bytes are those of the compiled program, where fused operations no longer meet memory.
    """
    return lowered.cost_analysis()["flops"] / devices, lowered.compile().cost_analysis()["bytes accessed"]


def text(
    stage: str, *, updates: int, images: int, seconds: float, kind: str = "", memory: dict[str, int] | None = None,
    program: tuple[float, float] | None = None, half: bool = False,
) -> str:
    """The line of a stage's end; `program` is from `cost`, `memory` from `device.memory_stats()`, and absent on CPU.

    The seconds are of the clock, from the first update's end to the last: waiting for data, looks at the validation patients and saves
    count, so the share is that of the run and not of the bare step.
    """
    if updates < 1 or seconds <= 0:
        return f"{stage}: too short to tell its speed"
    parts = [f"{images / seconds:.4g} images/s with validation and saves"]
    if memory and "peak_bytes_in_use" in memory:
        limit = f" of {memory['bytes_limit'] / 1e9:.3g}" if "bytes_limit" in memory else ""
        parts.append(f"peak memory {memory['peak_bytes_in_use'] / 1e9:.3g}{limit} GB")
    if program is not None:
        peak, (flops, traffic) = peak_of(kind), program
        load = f"{flops / 1e12:.3g} TFLOP and {traffic / 1e9:.3g} GB an update and device"
        if peak is None:
            parts.append(f"share of the roofline unknown: {kind!r} is not in the table of uscl/train/roofline.py ({load})")
        else:
            rate = peak.half if half else peak.single
            part, side = share(seconds / updates, flops=flops, traffic=traffic, rate=rate, bandwidth=peak.bandwidth)
            parts.append(f"{100 * part:.3g} % of the roofline ({side} binds; {load}; {kind})")
    return f"{stage}: " + ", ".join(parts)


def summary(stage: str, step, state: Any, batch: Any, *, updates: int, images: int, seconds: float) -> str:
    """`text` of a stage that has just run on this process's devices; on CPU it holds images/s alone.

    Args:
        stage: its name.
        step: the jitted step; its program is looked up, not compiled again.
        state, batch: the step's arguments, as arrays or shapes of the whole batch.
        updates, images, seconds: how many, images of this process alone, in what time.
    """
    told = {"updates": updates, "images": images * jax.process_count(), "seconds": seconds}
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return text(stage, **told)
    try:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, batch))
        lowered = step.lower(*shapes)
        counted = {"program": cost(lowered, jax.device_count()), "half": "xbf16>" in lowered.as_text()}
    except Exception:  # a backend that can't count must not end a run that is done
        counted = {}
    return text(stage, **told, **counted, kind=device.device_kind, memory=device.memory_stats())
