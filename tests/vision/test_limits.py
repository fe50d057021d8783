from apps.vision.limits import GROW_AFTER, BatchLimits


def test_a_batch_that_did_not_fit_halves_the_next_ones_of_its_kind_alone():
    limits = BatchLimits(8)
    limits.too_many("large", 8)
    assert (limits.of("large"), limits.of("small")) == (4, 8)
    limits.too_many("large", 3)
    assert limits.of("large") == 1
    limits.too_many("large", 1)
    assert limits.of("large") == 1


def test_the_limit_grows_slowly_again_up_to_what_it_was():
    limits = BatchLimits(3)
    limits.too_many("large", 2)
    seen = []
    for _ in range(4 * GROW_AFTER):
        seen.append(limits.of("large"))
        limits.went_well("large", seen[-1])
    assert seen == [1] * GROW_AFTER + [2] * GROW_AFTER + [3] * 2 * GROW_AFTER


def test_smaller_batches_than_allowed_prove_nothing():
    limits = BatchLimits(8)
    limits.too_many("large", 8)
    for _ in range(2 * GROW_AFTER):
        limits.went_well("large", 3)
    assert limits.of("large") == 4
