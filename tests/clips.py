"""Small clips for tests, made by PyAV."""

import io
import itertools
from typing import Any

import av
from PIL import Image as Picture

_colors = itertools.count()


def clip_bytes(
    frames: int = 10,
    size: tuple[int, int] = (64, 48),
    rate: int = 10,
    codec: str = "mpeg4",
    format: str = "mp4",
    rotation: int = 0,
) -> bytes:
    """A clip of plain frames that grow brighter; a new colour each time, so no two are the same.

    Args:
        rate: frames a second.
        rotation: degrees, counterclockwise, by which a player turns it.
    """
    color = next(_colors)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            shade = (number * 200 // max(frames, 1), color * 37 % 256, color * 101 % 256)
            picture = Picture.new("RGB", size, shade)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return buffer.getvalue()


def sound_bytes() -> bytes:
    """An MP4 that holds sound alone."""
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "float32"), "fltp", "mono")
        frame.sample_rate = 16000
        for _ in range(20):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
