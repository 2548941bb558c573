"""For every test: four simulated devices, programs kept between runs, our own warnings as errors, and the real data if present."""
import os

# Both are read when JAX is first imported, which is below this.
os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()

from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

from uscl.train.mesh import cache_folder, enable_compilation_cache  # noqa: E402

enable_compilation_cache(cache_folder() / "tests")


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", r"error:::uscl(\.|$)")
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"  # what was skipped is told with its reason, also under -q


@pytest.fixture(scope="module")
def quick_programs():
    """LLVM's optimisations are left out: they take longer than a test's few updates. For modules whose time is whole runs of stages."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real sample data: USCL_TEST_DATA, or `shared/data` beside the repository."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    root = Path(os.environ.get("USCL_TEST_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set USCL_TEST_DATA to the folder that holds it")
    return root
