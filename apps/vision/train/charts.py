"""Small SVG charts: curves over epochs, and confusion matrices. Text only, no drawing library."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT, GAP = 360, 240, 16  # of one panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 34  # around the curves of a panel
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: for all kinds of eyes
STYLE = "font:12px system-ui,sans-serif;background:#fff"


def curves(panels: Mapping[str, Mapping[str, Points]], columns: int = 2) -> str:
    """An SVG picture with one panel for each quantity.

    Args:
        panels: quantity -> name of a curve -> points (epoch, value), finite.
    """
    rows = -(-len(panels) // columns)
    width = columns * (WIDTH + GAP) + GAP
    height = rows * (HEIGHT + GAP) + GAP
    parts = [_open(width, height, "Curves of a training")]
    for number, (title, lines) in enumerate(panels.items()):
        x = GAP + (number % columns) * (WIDTH + GAP)
        y = GAP + (number // columns) * (HEIGHT + GAP)
        parts.append(f'<g transform="translate({x} {y})">{_panel(title, lines)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(title: str, lines: Mapping[str, Points]) -> str:
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    (x0, x1), (y0, y1) = _range(p[0] for p in points), _range(p[1] for p in points)
    parts = [f'<text x="{LEFT}" y="14" font-weight="600">{escape(title)}</text>']
    parts += _axes(x0, x1, y0, y1)
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [(_scale_x(x, x0, x1), _scale_y(y, y0, y1)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        if len(placed) == 1:
            parts.append(f'<circle cx="{placed[0][0]:.1f}" cy="{placed[0][1]:.1f}" r="2"/>')
        if len(lines) > 1:
            x = WIDTH - RIGHT - 60 * (len(lines) - number) + 60
            parts.append(
                f'<text x="{x}" y="14" fill="{colour}" text-anchor="end">{escape(name)}</text>'
            )
    return "".join(parts)


def _axes(x0: float, x1: float, y0: float, y1: float) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for k in range(5):
        value = y0 + (y1 - y0) * k / 4
        y = _scale_y(value, y0, y1)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{bottom + 16}">{x0:g}</text>')
    parts.append(f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{x1:g}</text>')
    parts.append(
        f'<text x="{(LEFT + right) / 2}" y="{bottom + 28}" text-anchor="middle">epoch</text>'
    )
    return parts


def _range(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    margin = 0.0 if high > low else 0.1 * abs(low) or 0.5
    return low - margin, high + margin


def _scale_x(x: float, x0: float, x1: float) -> float:
    return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)


def _scale_y(y: float, y0: float, y1: float) -> float:
    return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], cell: int = 44) -> str:
    """An SVG confusion matrix: a row for what a picture shows, a column for what was said.

    Args:
        matrix: counts, (classes, classes).
        cell: side of a cell in pixels.
    """
    margin = 10 + 7 * max(len(label) for label in labels)
    side = margin + cell * len(labels) + 10
    parts = [_open(side, side, "Confusion matrix: rows are true, columns are predicted")]
    for row, counts in enumerate(matrix):
        total = sum(counts) or 1
        y = margin + row * cell
        parts.append(
            f'<text x="{margin - 6}" y="{y + cell / 2 + 4}" text-anchor="end">'
            f"{escape(labels[row])}</text>"
        )
        for column, count in enumerate(counts):
            parts.append(_cell(margin + column * cell, y, cell, count, count / total))
    for column, label in enumerate(labels):
        x = margin + column * cell + cell / 2 + 4
        parts.append(
            f'<text transform="translate({x} {margin - 6}) rotate(-90)">{escape(label)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _cell(x: float, y: float, side: float, count: int, part: float) -> str:
    ink = "#fff" if part > 0.5 else "#000"
    return (
        f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="#0072b2" '
        f'fill-opacity="{part:.3f}" stroke="#ddd"/>'
        f'<text x="{x + side / 2}" y="{y + side / 2 + 4}" text-anchor="middle" fill="{ink}">'
        f"{count}</text>"
    )


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="{STYLE}" role="img">'
        f"<title>{escape(title)}</title>"
    )
