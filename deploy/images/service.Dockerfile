# The service: REST API, dashboard, dispatcher. Neither torch nor Ray is in it, nor the embedded PostgreSQL.
# To build the same image from the same base: --build-arg BASE=python:3.12-slim@sha256:...
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS requirements
WORKDIR /build
COPY pyproject.toml deploy/images/requirements.py ./
RUN python3 requirements.py service > requirements.txt

FROM ${BASE} AS build
WORKDIR /build
RUN apt-get update && apt-get install -y --no-install-recommends binutils && python3 -m venv /opt/adadim
COPY constraints.txt ./
COPY --from=requirements /build/requirements.txt ./
RUN /opt/adadim/bin/pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt setuptools
COPY pyproject.toml README.md LICENSE ./
COPY adadim ./adadim
COPY adadim_core ./adadim_core
COPY workers ./workers
COPY service ./service
COPY examples ./examples
# What nobody loads here is left out: Arrow's Flight, headers, tests, debug symbols (not of libraries that
# wheels carry in *.libs: their tables were moved, and do not outlive another tool).
RUN /opt/adadim/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/adadim/bin/pip uninstall --yes --quiet setuptools pip \
    && cd /opt/adadim/lib/python3*/site-packages \
    && rm -r pyarrow/*flight* pyarrow/include pyarrow/src numpy/f2py numpy/_core/_simd* sqlalchemy/testing alembic/testing \
    && for lib in pyarrow/libarrow_python*.so.*.*.*; do \
         ln -sf "$(basename "$lib")" "${lib%.*.*}"; ln -sf "$(basename "$lib")" "${lib%%.so.*}.so"; done \
    && find . -depth -type d -name tests -exec rm -r {} + \
    && find . -type f \( -name '*.pxd' -o -name '*.pyx' -o -name '*.pyi' -o -name '*.h' \) -delete \
    && strip --strip-unneeded $(find asyncpg greenlet httptools sqlalchemy uvloop yaml -name '*.so') \
    && /opt/adadim/bin/python -c 'import service.app, service.cli.main, asyncpg, pyarrow.csv, pyarrow.fs, pyarrow.parquet, uvloop, yaml'

FROM ${BASE}
RUN useradd --create-home --uid 1000 adadim && install -d -o 1000 -g 1000 /state /storage
COPY --from=build /opt/adadim /opt/adadim
USER 1000:1000
ENV PATH=/opt/adadim/bin:$PATH ADADIM_STATE_DIR=/state ADADIM_HOST=0.0.0.0 ADADIM_PORT=8080
WORKDIR /state
VOLUME /state
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
CMD ["adadim", "serve"]
