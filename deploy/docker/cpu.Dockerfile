# A camera's questions answered on an x86-64 or ARM processor, by ONNX Runtime:
#     docker build -f deploy/docker/cpu.Dockerfile -t vpt-edge:cpu .
# docs/camera-on-a-jetson.md says how to run it; `make image-steps` walks it without docker.

FROM debian:bookworm-slim AS build
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install --no-install-recommends -y ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY . .
RUN python3 -m venv /tools \
 && /tools/bin/pip wheel --no-deps --wheel-dir /wheels .
# pip goes again: what runs here is fixed when the image is built.
RUN python3 -m venv /opt/vpt-edge \
 && /opt/vpt-edge/bin/pip install "$(echo /wheels/vpt_edge-*.whl)[live]" \
 && /opt/vpt-edge/bin/pip uninstall -y pip setuptools

FROM debian:bookworm-slim
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install --no-install-recommends -y python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --groups video --home-dir /data --shell /usr/sbin/nologin vpt \
 && install --directory --owner=vpt /data /run/vpt-edge
COPY --from=build /opt/vpt-edge /opt/vpt-edge
# ONNX Runtime's own telemetry: what a camera's process does is nobody else's.
ENV ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/vpt-edge/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
HEALTHCHECK --interval=30s --timeout=20s --start-period=10m \
    CMD ["vpt-watch", "--check", "/run/vpt-edge/status.json"]
ENTRYPOINT ["vpt-watch", "--status", "/run/vpt-edge/status.json"]
