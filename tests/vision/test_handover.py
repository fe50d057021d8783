from PIL import Image

from apps.vision.decode import Decoded
from apps.vision.handover import PATIENCE, Handover


def decoded(width: int = 100, height: int = 50, size: tuple[int, int] | None = None) -> Decoded:
    picture = Image.new("RGB", (width, height))
    return Decoded(picture, size or (width, height), "jpg", "image/jpeg")


def test_a_picture_is_taken_once():
    handover, picture = Handover(), decoded()
    handover.put("key", picture)
    assert handover.take("another") is None
    assert handover.take("key") is picture
    assert handover.take("key") is None


def test_a_picture_that_was_unpacked_at_a_part_of_its_size_is_not_kept():
    handover = Handover()
    handover.put("key", decoded(50, 25, size=(100, 50)))
    assert handover.take("key") is None


def test_when_it_is_full_the_older_pictures_stay():
    handover = Handover(limit=4 * 100 * 50 + 1)
    handover.put("older", decoded())
    handover.put("newer", decoded())
    assert handover.take("newer") is None
    assert handover.take("older") is not None
    handover.put("newer", decoded())
    assert handover.take("newer") is not None


def test_pictures_that_nobody_came_for_make_room():
    now = [0.0]
    handover = Handover(limit=4 * 100 * 50, clock=lambda: now[0])
    handover.put("forgotten", decoded())
    now[0] = PATIENCE + 1
    handover.put("newer", decoded())
    assert handover.take("forgotten") is None
    assert handover.take("newer") is not None
