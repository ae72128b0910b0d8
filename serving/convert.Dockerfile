# Converts to TensorRT with the very libraries that will run the engines: docker compose run --rm convert
#
# UNTESTED IN DOCKER AND ON A GPU: tests/test_convert_image.py holds it to the pins and to what
# convert_to_tensorRT.py needs; nobody has built it yet.
FROM tensorflow/serving:2.15.1-gpu

# The names that TensorFlow's wheel opens: an image with another TensorRT ends the build here.
RUN ldconfig \
 && test -e /usr/lib/x86_64-linux-gnu/libnvinfer.so.8.6.1 \
 && test -e /usr/lib/x86_64-linux-gnu/libnvinfer_plugin.so.8.6.1

# OpenCV's wheel with a window needs both.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      ca-certificates libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*

# Ubuntu 20.04 has Python 3.8. uv brings a 3.11 that is linked against nothing but an old glibc,
# so it runs here as it does anywhere, whatever other Python images are built on.
COPY --from=ghcr.io/astral-sh/uv:0.5.11 /uv /usr/local/bin/uv
ENV UV_PYTHON_INSTALL_DIR=/opt/python
RUN uv python install 3.11 && "$(uv python find 3.11)" -m venv /opt/segkit

# The pinned packages first: they change seldom. The image's glibc is 2.31, and all of them have
# wheels for that or an earlier one.
WORKDIR /segkit
COPY requirements.txt constraints.txt ./
RUN /opt/segkit/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      -r requirements.txt -c constraints.txt

COPY convert_to_tensorRT.py ./
COPY segkit segkit

# Any user may run it, so that what it writes belongs to whoever asked: --user "$(id -u):$(id -g)".
ENV HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    LD_LIBRARY_PATH=/usr/local/cuda/lib64:/usr/local/cuda/extras/CUPTI/lib64:/usr/local/nvidia/lib:/usr/local/nvidia/lib64

# In place of the server's script.
ENTRYPOINT ["/opt/segkit/bin/python", "convert_to_tensorRT.py"]
