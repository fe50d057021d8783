"""The page of a picture as the server sends it: neighbours, and people's boxes without scripts."""

import json
import re
import uuid

from tests.conftest import picture_bytes


def state_of(client, image_id: int) -> dict:
    return client.get(f"/images/{image_id}/state.json").json


def say(client, image_id: int, *words: dict) -> None:
    """Keep these annotations: {verdict, label, box, detection}."""
    state = state_of(client, image_id)
    annotations = [{"ref": str(uuid.uuid4()), "detection": None} | word for word in words]
    change = {
        "version": state["version"], "batch": str(uuid.uuid4()), "reviewed": False,
        "annotations": annotations,
    }  # fmt: skip
    answer = client.put(f"/images/{image_id}/state.json", json=change)
    assert answer.status_code == 200, answer.text


def neighbours_of(page: str) -> list[tuple[str, str]]:
    return re.findall(r'href="(/images/[^"]+)" rel="(prev|next)"', page)


def three(ann, upload) -> list[int]:
    return [upload(ann, picture_bytes(size=(64 + n, 48))) for n in range(3)]


def test_what_people_drew_is_shown_without_scripts_and_what_they_rejected_is_not(ann, upload):
    image_id = upload(ann)
    [first, *_] = state_of(ann, image_id)["detections"]
    about = {"label": first["label"], "box": first["box"], "detection": first["id"]}
    drawn = {"verdict": "drawn", "label": "my <own> box", "box": [3, 4, 20, 30]}
    say(ann, image_id, drawn, {"verdict": "rejected"} | about)
    page = ann.get(f"/images/{image_id}").text
    rows = re.findall(r'<li class="c\d+[^"]*" data-box="([^"]+)"', page)
    assert str(first["id"]) not in rows
    assert 'data-label="my &lt;own&gt; box"' in page
    assert re.search(r'<rect x="3.0" y="4.0" width="17.0" height="26.0"', page)


def test_the_state_travels_in_the_page_and_cannot_end_its_script(ann, upload):
    image_id = upload(ann)
    say(ann, image_id, {"verdict": "drawn", "label": "</script><b>", "box": [3, 4, 20, 30]})
    page = ann.get(f"/images/{image_id}").text
    [text] = re.findall(r"data-state>(.*?)</script>", page)
    assert json.loads(text) == state_of(ann, image_id)


def test_neighbours_are_those_of_the_gallery(ann, upload):
    oldest, middle, newest = three(ann, upload)
    page = ann.get(f"/images/{middle}").text
    assert neighbours_of(page) == [(f"/images/{newest}", "prev"), (f"/images/{oldest}", "next")]


def test_neighbours_of_a_search_are_those_that_it_finds(ann, upload):
    oldest, middle, newest = three(ann, upload)
    for image_id in (oldest, newest):
        ann.post(f"/images/{image_id}/tags", data={"name": "a & b"})
    page = ann.get(f"/images/{newest}?search=a+%26+b").text
    [(address, which)] = neighbours_of(page)
    assert which == "next"
    assert address.startswith(f"/images/{oldest}?search=a")
    assert "/images/search?search=a" in page
    assert str(middle) not in address.partition("?")[0]


def test_the_inbox_goes_on_and_leads_back_to_itself(ann, upload):
    ids = three(ann, upload)
    page = ann.get(f"/images/{ids[0]}?review=1").text
    [(address, which)] = neighbours_of(page)
    assert which == "next"
    assert address.endswith("?review=1")
    assert 'href="/review" data-gallery' in page.replace("\n", " ")


def test_nobody_elses_picture_is_a_neighbour(ann, bob, upload):
    upload(bob)
    image_id = upload(ann)
    assert neighbours_of(ann.get(f"/images/{image_id}").text) == []
    assert bob.get(f"/images/{image_id}?review=1").status_code == 404
