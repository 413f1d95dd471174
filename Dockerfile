# The package in a container, for CPUs or for NVIDIA GPUs:
#
#   docker build --tag=dcgan-inpaint:cpu .
#   docker build --tag=dcgan-inpaint:latest --build-arg=EXTRAS=cuda12,stream .
#
# GPUs need the driver and the NVIDIA Container Toolkit on the host, and nothing
# of CUDA: the wheels bring it. EXTRAS are those of setup.py. The flags follow the
# name of the image:
#
#   docker run --rm --gpus=all --volume="$PWD:/work" dcgan-inpaint:latest \
#     --config=quickstart
#
# Results go to runs/ below /work, which must be writable for the user 1000, or
# for the one that --user names.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

# The convolutions of the CPU are compiled where they run.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends g++ \
  && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY requirements/lock-py312.txt requirements/
COPY setup.py pyproject.toml README.md LICENSE ./
COPY configs configs
COPY dcgan_inpaint dcgan_inpaint
ARG EXTRAS=stream
RUN pip install --no-cache-dir --constraint=requirements/lock-py312.txt \
  ".[${EXTRAS}]"

# Caches go to the home, which any user may write to.
RUN useradd --uid=1000 --create-home app && chmod 1777 /home/app \
  && install --directory --mode=1777 /work
ENV HOME=/home/app \
  NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /work

# Process 1 of the container: it gets SIGTERM, saves and exits.
ENTRYPOINT ["python", "-m", "dcgan_inpaint.main"]
CMD ["--help"]
