# A Ray node, head or worker: Ray, torch, the trainer and the workers. For GPUs, build on a CUDA image and
# install a CUDA build of torch before the line that installs adadim.
FROM python:3.12-slim
# KubeRay asks with wget whether a node is well.
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY adadim ./adadim
COPY adadim_core ./adadim_core
COPY workers ./workers
COPY service ./service
RUN pip install --no-cache-dir --constraint constraints.txt '.[workers,gpu]' \
    && useradd --create-home --uid 1000 adadim \
    && install -d -o adadim /storage
USER adadim
ENV RAY_AUTH_MODE=token
VOLUME /storage
CMD ["ray", "start", "--head", "--block", "--port=6379", "--dashboard-host=0.0.0.0", "--dashboard-port=8265", "--disable-usage-stats"]
