# A camera's questions answered on a Jetson with JetPack 7.2, by TensorRT:
#     docker build -f deploy/docker/jetpack7.Dockerfile -t vpt-edge:jetpack7 .
# To be built on the Jetson, or for linux/arm64. docs/camera-on-a-jetson.md says how to run it, and
# that nobody has built it yet.

FROM ubuntu:24.04 AS build
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install --no-install-recommends -y ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY . .
RUN python3 -m venv /tools \
 && /tools/bin/pip wheel --no-deps --wheel-dir /wheels .
# TensorRT is a system package, which the environment is to see. pip goes again: what runs here is
# fixed when the image is built.
RUN python3 -m venv --system-site-packages /opt/vpt-edge \
 && /opt/vpt-edge/bin/pip install "$(echo /wheels/vpt_edge-*.whl)[live]" \
 && /opt/vpt-edge/bin/pip uninstall -y pip setuptools

FROM ubuntu:24.04
ARG DEBIAN_FRONTEND=noninteractive
# NVIDIA's archive of this release, for TensorRT of the version that the device has itself: a plan
# loads under no other one.
ADD --chmod=644 https://repo.download.nvidia.com/jetson/jetson-ota-public.asc \
    /etc/apt/keyrings/nvidia-jetson.asc
# GStreamer's elements for CSI cameras and the hardware decoder are the host's: NVIDIA's container
# runtime brings them in.
RUN apt-get update \
 && apt-get install --no-install-recommends -y ca-certificates \
 && echo "deb [signed-by=/etc/apt/keyrings/nvidia-jetson.asc]" \
    "https://repo.download.nvidia.com/jetson/common r39.2 main" \
    > /etc/apt/sources.list.d/nvidia-jetson.list \
 && apt-get update \
 && apt-get install --no-install-recommends -y \
    gstreamer1.0-plugins-base \
    gstreamer1.0-plugins-good \
    gstreamer1.0-tools \
    python3 \
    python3-libnvinfer=10.16.2.10-1+cuda13.2 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --groups video --home-dir /data --shell /usr/sbin/nologin vpt \
 && install --directory --owner=vpt /data /run/vpt-edge
COPY --from=build /opt/vpt-edge /opt/vpt-edge
# ONNX Runtime's own telemetry: what a camera's process does is nobody else's.
ENV ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/vpt-edge/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
# It is not loaded, which needs the device: only whether this Python finds it.
RUN python -c "import sys; from importlib.util import find_spec; \
    assert sys.version_info[:2] == (3, 12); assert find_spec('tensorrt')"
USER 10001
WORKDIR /data
HEALTHCHECK --interval=30s --timeout=20s --start-period=10m \
    CMD ["vpt-watch", "--check", "/run/vpt-edge/status.json"]
ENTRYPOINT ["vpt-watch", "--status", "/run/vpt-edge/status.json"]
