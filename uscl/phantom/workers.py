"""Cines made side by side and handed out in their order."""
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def in_order(one, count, *, workers):
    """Yields one(0), one(1), ..., one(count - 1), computed by so many threads, which run ahead by one cine.

    NumPy lets go of the interpreter inside its loops, nothing is forked or imported anew, and the caller may hold JAX. A generator that
    is closed early waits for the cines in work and ends.
    """
    if workers <= 1:
        yield from map(one, range(count))
        return
    pool = ThreadPoolExecutor(workers)
    try:
        indices = iter(range(count))
        waiting = deque(pool.submit(one, i) for i in islice(indices, workers + 1))
        while waiting:
            ready = waiting.popleft().result()
            waiting.extend(pool.submit(one, i) for i in islice(indices, 1))
            yield ready
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
