# One image for the web process, the workers, beat and the migrations; docs/deploy.md explains it.
#   docker build --tag sightbox:cpu .                           PyTorch for the CPU
#   docker build --tag sightbox:cuda --build-arg TORCH=cuda .   PyTorch with CUDA, some gigabytes more
FROM python:3.12-slim

ARG TORCH=cpu
# For TORCH=cpu alone: PyTorch's own index of wheels without CUDA.
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The folder of the data exists in the image, so that new volumes belong to this user.
RUN useradd --uid 1000 --user-group --create-home sightbox \
 && install --directory --owner sightbox --group sightbox --mode 700 /data /data/weights

WORKDIR /app
COPY requirements.txt .
RUN case "$TORCH" in \
      cpu) grep -E '^(torch|torchvision)[<>=~]' requirements.txt | xargs pip install --index-url "$TORCH_CPU_INDEX" ;; \
      cuda) ;; \
      *) echo "TORCH is $TORCH; use cpu or cuda" >&2; exit 1 ;; \
    esac \
 && pip install --requirement requirements.txt
COPY . .

ENV SIGHTBOX_CONFIG=production \
    SIGHTBOX_INSTANCE_PATH=/data \
    FLASK_APP='apps.app:create_app("production")' \
    HOST=0.0.0.0 \
    PORT=5000
USER sightbox
EXPOSE 5000
CMD ["gunicorn", "--config", "apps/gunicorn_conf.py", "apps.wsgi:app"]
