import threading

import pytest
import torch

from apps.vision.cores import WAITING, CoreShares, wait_briefly

PATIENCE = 20  # seconds for something that comes at once unless it is broken


def test_a_network_alone_has_all_cores_and_gives_them_back():
    before = torch.get_num_threads()
    shares = CoreShares(3)
    with shares.one():
        assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="a picture"), shares.one():
        raise ValueError("a picture")
    with shares.one():  # nothing is held by those that ended
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("cores", "second"), [(4, 2), (2, 1), (1, 1)])
def test_the_second_network_has_its_share_and_the_first_one_keeps_its_own(cores, second):
    shares = CoreShares(cores)
    seen: list[int] = []

    def another() -> None:
        with shares.one():
            seen.append(torch.get_num_threads())

    with shares.one():
        thread = threading.Thread(target=another)
        thread.start()
        thread.join(PATIENCE)
        assert seen == [second]
        assert torch.get_num_threads() == cores


def test_a_crowd_counts_for_a_while_after_it_is_gone():
    now = 0.0
    shares = CoreShares(2, clock=lambda: now)
    with shares.one(), shares.one():
        pass
    now += CoreShares.REMEMBERED
    with shares.one():
        assert torch.get_num_threads() == 1
    now += 0.1
    with shares.one():
        assert torch.get_num_threads() == 2


def test_threads_wait_briefly_where_nobody_chose():
    environment = {"HOME": "/"}
    wait_briefly(environment)
    assert environment == {"HOME": "/"} | WAITING


def test_how_threads_wait_is_left_alone_where_somebody_chose_it():
    environment = {"OMP_WAIT_POLICY": "PASSIVE"}
    wait_briefly(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_how_long_they_wait_can_be_chosen_alone(name):
    environment = {name: "7"}
    wait_briefly(environment)
    assert environment == WAITING | {name: "7"}
