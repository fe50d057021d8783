"""Asking another process whether a file of weights is acceptable; needs no torch here."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from apps.errors import N_, InvalidInput, InvalidWeights

logger = logging.getLogger(__name__)

SECONDS = 300.0  # for one file; the largest network takes 15 on two cores
_alone = threading.Lock()
ROOT = Path(__file__).resolve().parents[3]
# Of the environment: where programs, libraries and temporary files are, the language, and threads.
NEEDED = re.compile(
    "PATH|HOME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|TEMP|TMP|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH"
    "|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|OMP_[A-Z_]+|MKL_[A-Z_]+|SYSTEMROOT"
)
STOPPED = N_(
    "The check of this file stopped without an answer; the server's log has the details. If the "
    "server is short of memory, try again when it is idle."
)


@dataclass(frozen=True, slots=True)
class Question:
    """A file and what it is said to be; plain values, because they travel as JSON."""

    file: str
    target: str  # where the accepted weights are written
    architecture: str  # a key of architectures.BUILDERS
    classes: int  # without the background
    origin: str  # of architectures.Origin
    background: bool  # whether the network has an output for it


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is known of the file that was written."""

    origin: str  # as asked, or as the file itself tells
    sha256: str
    size: int  # bytes
    parameters: int


def ask(question: Question, seconds: float = SECONDS) -> Accepted:
    """Have a file checked (see check.py) and rewritten; one at a time in this process.

    Raises:
        InvalidWeights: nothing could make this file acceptable.
        InvalidInput: it is a file of weights, but not for this network or these classes; or the
            check did not come to an end, and may another time.
    """
    try:
        with _alone:
            done = subprocess.run(
                [sys.executable, "-m", "apps.vision.zoo.check"],
                input=json.dumps(asdict(question)).encode(),
                capture_output=True,
                timeout=seconds,
                cwd=ROOT,
                env=_environment(),
            )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(
            N_("The check of this file took longer than %(seconds)s seconds and was stopped."),
            seconds=round(seconds),
        ) from error
    except ValueError as error:
        log = done.stderr.decode(errors="replace")[-2000:]
        logger.error("check of weights failed status=%d stderr=%s", done.returncode, log)
        raise InvalidInput(STOPPED) from error
    if refused := answer.get("refused"):
        kind = InvalidWeights if refused["kind"] == "InvalidWeights" else InvalidInput
        raise kind(refused["message"], **refused["params"])
    return Accepted(**answer["accepted"])


def _environment() -> dict[str, str]:
    """No secret of anybody's, and no GPU: another process may be using all of its memory.

    What may hold one is not known, so only what Python and torch need to start is handed on.
    """
    kept = {key: value for key, value in os.environ.items() if NEEDED.fullmatch(key)}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
