# Targets: cpu (the default) and gpu. CUDA comes with the gpu set, so one base serves both.
# How it is built and checked without a Docker engine: docs/container.md.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
# Enough of the project to install its command; the code itself is a later, smaller layer.
COPY service/__init__.py service/

# Build tools stay behind: neither pip nor setuptools is in the final image's environment.
FROM build AS build-cpu
COPY requirements/cpu.txt requirements/
RUN pip install --require-hashes -r requirements/cpu.txt \
 && pip install --no-deps --no-build-isolation -e . \
 && pip uninstall -qy pip setuptools hatchling

FROM build AS build-gpu
COPY requirements/gpu.txt requirements/
RUN pip install --require-hashes -r requirements/gpu.txt \
 && pip install --no-deps --no-build-isolation -e . \
 && pip uninstall -qy pip setuptools hatchling

FROM build AS code
COPY mien mien
COPY service service
# Compiled here, since the service may run as another user on a read-only root.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash mien service
COPY models models

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="mien" \
      org.opencontainers.image.description="Face-attribute inference service" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MIEN_HOST=0.0.0.0 MIEN_PORT=8000
WORKDIR /app
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['MIEN_PORT']}/readyz\", timeout=2)"]
ENTRYPOINT ["mien"]
CMD ["serve"]

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility MIEN_REQUIRE_PROVIDER=cuda
COPY --from=build-gpu /opt/venv /opt/venv
COPY --from=code /app /app
USER 10001:10001

FROM runtime AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
COPY --from=code /app /app
USER 10001:10001
