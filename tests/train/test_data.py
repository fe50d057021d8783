"""Pictures from every layout, split by seed, checked, and changed by augmentation."""

import gzip
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from apps.errors import InvalidInput
from apps.vision.train import augment
from apps.vision.train.check import check_source
from apps.vision.train.classifier import Examples, Pictures
from apps.vision.train.data import open_source, ordered, split, tensor
from tests.train import pictures


@pytest.mark.parametrize("layout", [pictures.folder, pictures.zips])
def test_folders_and_zips_hold_the_same_data(tmp_path, layout):
    source = open_source(layout(tmp_path))
    assert source.classes == ("circles", "squares")
    assert list(source.train.labels) == [0] * 12 + [1] * 12
    assert source.test is not None
    assert len(source.test) == 12
    order = sorted(range(12), key=str).index(3)  # file names are sorted as texts
    assert np.array_equal(np.array(source.train.read(order)), np.array(pictures.picture(0, 3)))


def test_idx_files_are_read_with_and_without_gzip(tmp_path):
    path = pictures.idx(tmp_path / "mnist")
    source = open_source(path)
    assert source.classes == tuple("0123456789")
    assert list(source.train.labels)[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert tensor(source.train.read(3), 1).shape == (1, 28, 28)
    for packed in list(path.glob("*.gz")):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert list(open_source(path).test.labels) == list(source.test.labels)


def test_a_class_folder_alone_holds_a_test_part_out_that_never_trains(tmp_path):
    source = open_source(pictures.folder(tmp_path) / "train")
    assert source.test is None
    parts = Pictures(source, pictures.recipe())
    used = [set(part.indices) for part in (parts.train, parts.val, parts.test)]
    assert [len(part) for part in used] == [14, 4, 6]
    assert set.union(*used) == set(range(24))


def test_what_is_held_out_stays_the_same_with_another_seed_of_the_training(tmp_path):
    source = open_source(pictures.folder(tmp_path) / "train")
    first, other, again = (
        Pictures(source, pictures.recipe(**values))
        for values in ({"seed": 1}, {"seed": 2}, {"split_seed": 5})
    )
    assert (first.val.indices, first.test.indices) == (other.val.indices, other.test.indices)
    assert first.test.indices != again.test.indices


@pytest.mark.parametrize("names", [("val", "test"), ("Validation", "Testing"), ("valid", "TEST")])
def test_a_folder_for_validation_validates_and_the_one_for_tests_is_measured(tmp_path, names):
    path = pictures.folder(tmp_path)
    shutil.copytree(path / "test", path / names[0])
    (path / names[0] / "squares" / "0.png").unlink()
    (path / "train").rename(path / "Train")
    (path / "test").rename(path / "kept")
    (path / "kept").rename(path / names[1])
    source = open_source(path)
    assert source.classes == ("circles", "squares")
    parts = Pictures(source, pictures.recipe())
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [24, 11, 12]
    assert parts.val.part is source.val
    assert parts.test.part is source.test
    assert ordered(source, ("square", "circle")).val.labels == [1] * 6 + [0] * 5


def test_without_a_folder_for_tests_they_are_held_out_of_train_not_of_val(tmp_path):
    path = pictures.folder(tmp_path)
    (path / "test").rename(path / "val")
    source = open_source(path)
    parts = Pictures(source, pictures.recipe())
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [18, 12, 6]
    assert parts.val.part is source.val
    assert set(parts.train.indices).isdisjoint(parts.test.indices)


def test_zips_are_matched_in_any_case_too(tmp_path):
    path = pictures.zips(tmp_path)
    (path / "test-0.zip").rename(path / "Val-0.ZIP")
    source = open_source(path)
    assert source.test is None
    assert source.val is not None
    assert len(source.val) == 12


def test_torchvision_data_sets_are_read_from_their_folder(tmp_path):
    pictures.idx(tmp_path / "FashionMNIST" / "raw")
    for packed in (tmp_path / "FashionMNIST" / "raw").glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    source = open_source(tmp_path, "FashionMNIST")
    assert source.classes[0] == "T-shirt/top"
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (40, 20)


def test_a_torchvision_data_set_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(InvalidInput, match="--download"):
        open_source(tmp_path, "CIFAR10")


def test_classes_are_matched_by_name_not_by_place(tmp_path):
    source = ordered(open_source(pictures.folder(tmp_path)), ("Square", "Circle"))
    assert source.classes == ("Square", "Circle")
    assert list(source.train.labels) == [1] * 12 + [0] * 12


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="circles, squares, but the model has cat, dog"):
        ordered(open_source(pictures.folder(tmp_path)), ("cat", "dog"))


@pytest.mark.parametrize("what", ["missing", "empty", "cut", "nozip"])
def test_a_folder_without_pictures_says_what_is_expected(tmp_path, what):
    if what == "cut":
        path = pictures.idx(tmp_path / "mnist")
        file = path / "train-images-idx3-ubyte.gz"
        file.write_bytes(file.read_bytes()[:50])
    elif what == "nozip":
        path = tmp_path
        (path / "train-0.zip").write_bytes(b"PK no zip")
    else:
        path = tmp_path / "none" if what == "missing" else tmp_path
    with pytest.raises(InvalidInput):
        open_source(path)


def test_a_split_is_the_same_for_a_seed_and_keeps_the_classes_even():
    labels = [0] * 80 + [1] * 20
    kept, held = split(labels, 0.1, seed=5)
    assert (kept, held) == split(labels, 0.1, seed=5)
    assert held != split(labels, 0.1, seed=6)[1]
    assert sorted(kept + held) == list(range(100))
    assert [labels[place] for place in held].count(1) == 2


@pytest.mark.parametrize("name", list(augment.MAKERS))
def test_augmentation_changes_pictures_but_not_labels(tmp_path, name):
    source = open_source(pictures.folder(tmp_path))
    plain = Examples(source.train, range(24), pictures.recipe(), train=True)
    changing = Examples(source.train, range(24), pictures.recipe(augment=name), train=True)
    torch.manual_seed(1)
    before, labels = plain.__getitems__(list(range(24)))
    after, same = changing.__getitems__(list(range(24)))
    assert after.shape == before.shape
    assert not torch.equal(after, before)
    assert torch.equal(labels, same)


def test_pictures_for_validation_are_never_augmented(tmp_path):
    source = open_source(pictures.folder(tmp_path))
    assert source.test is not None
    recipe = pictures.recipe(augment="flip,erase,trivial")
    part = Examples(source.test, range(12), recipe, train=False)
    assert torch.equal(part.__getitems__([3])[0], part.__getitems__([3])[0])
    plain = Examples(source.test, range(12), pictures.recipe(), train=False)
    assert torch.equal(part.__getitems__([3])[0], plain.__getitems__([3])[0])


def test_pictures_that_are_augmented_alike_get_one_draw(tmp_path):
    source = open_source(pictures.folder(tmp_path))
    part = Examples(source.train, [0] * 8, pictures.recipe(augment="rotate", alike=4), train=True)
    drawn, _labels = part.__getitems__(list(range(8)))
    assert torch.equal(drawn[0], drawn[3])
    assert not torch.equal(drawn[0], drawn[4])


def test_training_pictures_can_be_smaller_than_those_that_are_measured(tmp_path):
    source = open_source(pictures.folder(tmp_path))
    recipe = pictures.recipe(augment="resized_crop", train_size=16)
    assert Examples(source.train, [0], recipe, train=True)[0][0].shape == (3, 16, 16)
    assert Examples(source.train, [0], recipe, train=False)[0][0].shape == (3, 32, 32)


def test_the_check_finds_nothing_wrong_with_good_data(tmp_path):
    report = check_source(open_source(pictures.folder(tmp_path)))
    assert report.text().splitlines() == [
        "train: 24 pictures in 2 classes: circles 12, squares 12",
        "test: 12 pictures in 2 classes: circles 6, squares 6",
        "nothing is wrong with it",
    ]


def test_the_check_finds_broken_files_duplicates_leaks_and_imbalance(tmp_path):
    path = pictures.folder(tmp_path, train=25)
    (path / "train" / "circles" / "torn.png").write_bytes(b"\x89PNG no picture")
    for number in range(23):
        (path / "train" / "squares" / f"{number}.png").unlink()
    pictures.picture(0, 3).save(path / "train" / "circles" / "again.png")
    pictures.picture(0, 4).save(path / "test" / "circles" / "leak.png")
    report = check_source(open_source(path))
    text = report.text()
    assert "error: train: pictures that cannot be read: circles/torn.png" in text
    assert (
        "the same picture twice: circles/again.png = " in text.replace("3.png = circles/", "")
        or "circles/again.png" in text
    )
    assert "in train too: circles/leak.png = circles/4.png" in text
    assert "less than 1/10 of the greatest one: squares" in text
    with pytest.raises(InvalidInput, match=r"cannot be read: circles/torn\.png"):
        report.refuse_broken()


def test_the_check_looks_at_val_too(tmp_path):
    path = pictures.folder(tmp_path)
    for part, number in (("train", 3), ("test", 1001)):
        (path / "val" / "circles").mkdir(parents=True, exist_ok=True)
        pictures.picture(0, number).save(path / "val" / "circles" / f"{part}.png")
    text = check_source(open_source(path)).text()
    assert "val: 2 pictures in 2 classes: circles 2, squares 0" in text
    assert "val: classes without a picture: squares" in text
    assert "pictures of val that are in train too: circles/train.png = circles/3.png" in text
    assert "pictures of test that are in val too: circles/1.png = circles/test.png" in text


def test_the_check_finds_classes_without_pictures_to_train_on(tmp_path):
    source = open_source(pictures.folder(tmp_path))
    lonely = replace(source, classes=("circles", "squares", "stars"))
    with pytest.raises(InvalidInput, match="classes without a picture: stars"):
        check_source(lonely).refuse_broken()


def test_a_test_part_with_a_new_class_is_refused(tmp_path):
    path = pictures.folder(tmp_path)
    (path / "test" / "stars").mkdir()
    pictures.picture(0, 1).save(path / "test" / "stars" / "1.png")
    with pytest.raises(InvalidInput, match="stars"):
        open_source(path)


def test_a_broken_picture_that_nobody_checked_is_named_when_it_is_read(tmp_path):
    path = pictures.folder(tmp_path)
    (path / "train" / "circles" / "0.png").write_bytes(b"no picture")
    examples = Examples(open_source(path).train, [0], pictures.recipe(), train=True)
    with pytest.raises(InvalidInput, match=r"circles/0\.png is no picture"):
        examples[0]


def test_a_zip_that_lost_its_end_is_named(tmp_path):
    path = pictures.zips(tmp_path)
    source = open_source(path)
    with zipfile.ZipFile(path / "train-0.zip", "w") as archive:
        archive.writestr("train/other.txt", "other")
    with pytest.raises(OSError, match="train/circles"):
        source.train.read(0)
