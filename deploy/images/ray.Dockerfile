# A Ray node, head or worker: Ray, torch, the trainer and the workers.
#   --build-arg TORCH=cpu     torch without CUDA (default), from the index that pytorch.org has for it
#   --build-arg TORCH=cuda    for nodes with GPUs; CUDA's libraries come with torch, the driver from the node
#   --build-arg BASE=python:3.12-slim@sha256:...    the same image from the same base
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS requirements
WORKDIR /build
COPY pyproject.toml deploy/images/requirements.py ./
RUN python3 requirements.py workers gpu > requirements.txt

FROM ${BASE} AS build
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python3 -m venv /opt/adadim
COPY constraints.txt ./
# torch first and for itself: it is nine tenths of what is downloaded, and changes least.
RUN version=$(sed -n 's/^torch==//p' constraints.txt) \
    && case "${TORCH}" in \
         cpu) /opt/adadim/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
                --constraint constraints.txt "torch==${version}+cpu" ;; \
         cuda) /opt/adadim/bin/pip install --no-cache-dir --constraint constraints.txt "torch==${version}" ;; \
         *) echo "TORCH is cpu or cuda, not ${TORCH}" >&2; exit 2 ;; \
       esac
COPY --from=requirements /build/requirements.txt ./
RUN /opt/adadim/bin/pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt setuptools
COPY pyproject.toml README.md LICENSE ./
COPY adadim ./adadim
COPY adadim_core ./adadim_core
COPY workers ./workers
COPY service ./service
COPY examples ./examples
RUN /opt/adadim/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE}
# KubeRay asks with wget whether a node is well. It starts Ray in a login shell, which forgets PATH.
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
    && echo 'PATH=/opt/adadim/bin:$PATH' > /etc/profile.d/adadim.sh \
    && useradd --create-home --uid 1000 adadim && install -d -o 1000 -g 1000 /storage
COPY --from=build /opt/adadim /opt/adadim
USER 1000:1000
ENV PATH=/opt/adadim/bin:$PATH RAY_AUTH_MODE=token
WORKDIR /home/adadim
VOLUME /storage
CMD ["ray", "start", "--head", "--block", "--port=6379", "--dashboard-host=0.0.0.0", "--dashboard-port=8265", "--num-cpus=0", "--object-store-memory=500000000", "--disable-usage-stats"]
