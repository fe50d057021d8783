"""One way to print results: a table for people, JSON for programs, a status for scripts."""

import argparse
import json
import platform
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One ratio and the bar that it has to pass, if there is one."""

    name: str
    ratio: float
    least: float | None = None
    most: float | None = None
    note: str = ""  # figures behind the ratio

    @property
    def good(self) -> bool:
        return (self.least is None or self.ratio >= self.least) and (
            self.most is None or self.ratio <= self.most
        )


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7, help="measured in turns; medians count")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    parser.add_argument("--data", help="folder of photographs; default: SIGHTBOX_TEST_DATA")
    return parser


def report(rows: list[Row], *, check: bool, **facts: object) -> int:
    """Print ``rows``; the exit status. ``facts`` are told with those of the machine."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        bar = f">= {row.least}" if row.least is not None else f"<= {row.most}" if row.most else ""
        missed = "" if row.good else "MISSED "
        print(f"{row.name:<{width}}  {row.ratio:6.2f}  {bar:<8}{missed}{row.note}")
    print(json.dumps({"machine": machine() | facts, "rows": [asdict(row) for row in rows]}))
    return int(check and not all(row.good for row in rows))


def machine() -> dict[str, object]:
    """What a figure depends on."""
    import torch  # here, so that a benchmark of pages has the memory of a web process
    import torchvision

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }
