# The gateway with its embedded engine and both stores. docs/deployment.md says how to run it.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/stillhouse
COPY requirements/container.txt /build/requirements/
RUN /opt/stillhouse/bin/pip install --no-deps --requirement /build/requirements/container.txt
COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
RUN /opt/stillhouse/bin/pip install --no-deps /build

FROM python:3.11-slim-bookworm
COPY --from=build /opt/stillhouse /opt/stillhouse
# A fixed number, so that a volume keeps its owner from image to image.
RUN useradd --system --uid 10001 --home-dir /var/lib/stillhouse --shell /usr/sbin/nologin stillhouse \
    && install --directory --owner stillhouse --group stillhouse --mode 0700 /var/lib/stillhouse
ENV PATH=/opt/stillhouse/bin:$PATH STILLHOUSE_HOME=/var/lib/stillhouse PYTHONUNBUFFERED=1
USER stillhouse
WORKDIR /var/lib/stillhouse
# The ledger, the keys' pepper, the first key and the packed weights.
VOLUME /var/lib/stillhouse
EXPOSE 8000
# Packing a large model's weights takes minutes at the first start.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
# In a container loopback reaches nobody. Publish the port on the host's loopback, or behind TLS.
CMD ["stillhouse", "serve", "--host", "0.0.0.0"]
