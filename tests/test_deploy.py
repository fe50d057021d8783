"""The files for containers, read as data: there is no Docker where the tests run."""

import os
import re
from typing import Any

import pytest
import yaml

from apps.config import ROOT, Base

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "web", "worker", "worker-gpu", "beat")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / "docs" / "deploy" / "compose.env.example").read_text()
# Read by the shell or by gunicorn's settings, before there is a configuration.
OUTSIDE = {"CONFIG", "INSTANCE_PATH", "THREADS", "ACCESS_LOG"}
FROM_THE_ENV_FILE = re.compile(r"\$\{(\w+)(:\?|:-)[^}]*\}")


def environments() -> list[tuple[str, str, str]]:
    """(service, variable, value) of every one."""
    return [
        (name, key, str(value))
        for name, service in SERVICES.items()
        for key, value in service.get("environment", {}).items()
    ]


def test_every_part_of_a_cluster_is_there():
    assert set(SERVICES) == {*OURS, "db", "redis", "s3"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate", "beat"}))
def test_every_service_that_answers_has_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_the_web_process_is_asked_for_life_and_readiness():
    script = SERVICES["web"]["healthcheck"]["test"][-1]
    compile(script, "healthcheck", "exec")
    assert "healthz" in script
    assert "readyz" in script


def test_migrations_run_once_and_everything_of_ours_waits_for_them():
    assert SERVICES["migrate"]["command"] == "python -m apps"
    assert SERVICES["migrate"]["restart"] == "no"
    for name in OURS[1:]:
        condition = SERVICES[name]["depends_on"]["migrate"]["condition"]
        assert condition == "service_completed_successfully"


def test_whoever_is_waited_for_exists_and_can_be_healthy():
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            assert name in SERVICES
            assert "healthcheck" in SERVICES[name] or how["condition"] != "service_healthy"


def test_every_setting_of_the_containers_exists():
    known = {key for key in dir(Base) if key.isupper()} | OUTSIDE
    given = {key for _, key, _ in environments()}
    given |= set(re.findall(r"SIGHTBOX_\w+(?==)", DOCKERFILE))
    ours = {key.removeprefix("SIGHTBOX_") for key in given if key.startswith("SIGHTBOX_")}
    assert ours - known == set()


def test_no_secret_stands_in_the_file():
    for name, key, value in environments():
        if re.search(r"PASSWORD|SECRET|ACCESS_KEY", key):
            assert FROM_THE_ENV_FILE.fullmatch(value), f"{name}: {key}"
        bare = FROM_THE_ENV_FILE.sub("", value)
        assert not re.search(r"://[^/@:]*:[^/@]+@", bare), f"{name}: {key}"


def test_the_example_names_every_value_that_must_be_set_and_gives_none_away():
    asked = {
        match[1] for _, _, value in environments() for match in FROM_THE_ENV_FILE.finditer(value)
    }
    asked |= {match[1] for match in FROM_THE_ENV_FILE.finditer(str(SERVICES["web"]["ports"]))}
    given = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert set(given) == asked
    assert {key for key, value in given.items() if value} == {"SIGHTBOX_PORT"}


def test_the_filled_in_file_cannot_be_committed_or_built_in():
    assert "compose.env" in (ROOT / ".gitignore").read_text().splitlines()
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules
    for rule in rules:
        if rule.startswith("!"):
            assert (ROOT / rule[1:]).exists()
            assert "compose" not in rule


def test_only_the_reverse_proxy_of_this_machine_reaches_the_web_process():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_volumes_that_are_used_are_declared():
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])


def test_the_gpu_is_asked_for_by_its_profile_alone():
    gpu = SERVICES["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    [device] = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert gpu["build"]["args"]["TORCH"] == "cuda"
    assert not any("deploy" in SERVICES[name] for name in SERVICES if name != "worker-gpu")


def test_workers_on_a_gpu_have_two_batches_in_hand():
    """One that is looked at, and one that is unpacked meanwhile."""
    unit = (ROOT / "docs" / "deploy.md").read_text()
    for command in (
        SERVICES["worker-gpu"]["command"],
        unit[unit.index("ExecStart=/opt/sightbox/script/worker") :],
    ):
        pool = re.search(r"--pool (\w+) --concurrency (\d+) ", command)
        assert pool
        assert (pool[1], int(pool[2])) == ("threads", 2 * Base.BATCH_SIZE)


def test_images_are_of_a_version_and_ours_runs_as_a_user():
    for name in ("db", "redis", "s3"):
        assert re.fullmatch(r"[a-z/]+:v?\d[\w.]*", SERVICES[name]["image"])
    assert re.search(r"^USER sightbox$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.index("USER sightbox") < DOCKERFILE.index("CMD [")


def test_the_image_without_cuda_takes_torch_from_its_own_index():
    """The line of the Dockerfile that picks them finds exactly these two."""
    pattern = re.search(r"grep -E '([^']+)'", DOCKERFILE)
    assert pattern
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [line for line in lines if re.match(pattern[1], line)]
    assert [re.split("[<>=~]", line)[0] for line in found] == ["torch", "torchvision"]


def test_what_the_containers_run_exists():
    for name in ("worker", "worker-gpu", "beat"):
        assert re.match(r"celery -A apps\.worker (worker|beat) ", SERVICES[name]["command"])
    assert (ROOT / "apps" / "worker.py").exists()
    assert os.access(ROOT / "script" / "worker", os.X_OK)
