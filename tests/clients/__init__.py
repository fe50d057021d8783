"""Other people's clients in interpreters of their own; ``script/clients`` makes these."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PATIENCE = 120  # seconds


def run_client(name: str, job: dict[str, Any]) -> Any:
    """What the program ``name`` of this folder answers to ``job``.

    Skips the test if SIGHTBOX_TEST_CLIENTS is not set.
    """
    if not (folder := os.environ.get("SIGHTBOX_TEST_CLIENTS")):
        pytest.skip("run script/clients FOLDER and set SIGHTBOX_TEST_CLIENTS to that folder")
    python = Path(folder).absolute() / name / "bin" / "python"
    assert python.exists(), f"{python} is missing: run script/clients {folder}"
    ended = subprocess.run(
        [python, "-I", HERE / f"{name}.py"],  # -I: none of our modules or settings
        input=json.dumps(job),
        env=os.environ | {"no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
