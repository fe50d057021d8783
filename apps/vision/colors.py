"""One stable colour for each label: the same on every page, in downloads and after a restart."""

import zlib

# Distinct on light and dark pictures alike; static/css/labels.css repeats them as classes.
PALETTE = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#00a6a6", "#f032e6", "#7a9e00",
    "#c2185b", "#00796b", "#6d4c41", "#8e24aa", "#ad8b00", "#d84315", "#558b2f", "#5e35b1",
    "#1e88e5", "#0097d6", "#b71c1c", "#2e7d32", "#ec407a", "#3949ab", "#00897b", "#ef6c00",
)  # fmt: skip


def color_index(label: str) -> int:
    """Place of ``label`` in :data:`PALETTE`; spelled differently in case, still the same."""
    return zlib.crc32(label.casefold().encode()) % len(PALETTE)


def color_of(label: str) -> str:
    """``#rrggbb`` of ``label``."""
    return PALETTE[color_index(label)]


def text_on(color: str) -> str:
    """Black or white, whichever contrasts more with ``#rrggbb`` (WCAG 2 relative luminance)."""
    luminance = _luminance(color)
    return "#ffffff" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "#000000"


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
