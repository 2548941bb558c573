"""Installs uscl: `pip install -e .` for the package, `.[test]` with what the tests need, `.[cuda]` with JAX for NVIDIA GPUs.

`.[bench]` brings the peers of launch/bench.py that need nothing but torch. The others would bring CUDA or another torch with them, so:
    pip install torch==2.13.0        (a build for CPU)
    pip install -e .[bench]
    pip install --no-deps lightly==1.6.0 torchvision==0.28.0
Of the clips' peers, captum and torchvision are under BSD-3-Clause, kornia and MONAI under Apache-2.0.
"""
from setuptools import find_packages, setup

setup(
    name="uscl",
    version="0.1.0",
    description="Contrastive learning for ultrasound, in JAX and Flax",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["uscl", "uscl.*"]),
    package_data={"uscl.report": ["*.html"]},
    install_requires=[
        "jax>=0.10",
        "flax>=0.12.6",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.12",
        "numpy>=2.0",
        "scipy>=1.13",
        "ml_collections>=1.0",
        "absl-py>=2.1",
        "pydicom>=3.0.2",
        "pylibjpeg>=2.0",
        "pylibjpeg-openjpeg>=2.3",
        "pyjpegls>=1.5",
        "av>=14",
        "pillow>=11",
        "SimpleITK>=2.5",
        "tqdm>=4.66",
        "tensorboardX>=2.6.2",
        "matplotlib>=3.9",
        "jinja2>=3.1",
        "safetensors>=0.8",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-xdist>=3.6", "pycocotools>=2.0.8"],
        "cuda": ["jax[cuda13]>=0.10"],
        "bench": ["torch==2.13.0", "monai==1.6.1", "captum==0.9.0", "kornia==0.9.0"]
        + ["grain>=0.2.18", "array_record>=0.8", "tensorstore>=0.1.70"],
    },
)
