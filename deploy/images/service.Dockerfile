# The service: REST API, dashboard, dispatcher. Neither torch nor Ray is in it.
FROM python:3.12-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY adadim ./adadim
COPY adadim_core ./adadim_core
COPY workers ./workers
COPY service ./service
RUN pip install --no-cache-dir --constraint constraints.txt '.[service]' \
    && useradd --create-home --uid 1000 adadim \
    && install -d -o adadim /state /storage
USER adadim
ENV ADADIM_STATE_DIR=/state ADADIM_HOST=0.0.0.0 ADADIM_PORT=8080
VOLUME /state
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
CMD ["adadim", "serve"]
