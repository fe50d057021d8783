"""What the other ways to compute RoIAlign (He et al. 2017) have in common."""

from torchvision.ops import MultiScaleRoIAlign


class SameRoIAlign(MultiScaleRoIAlign):
    """A pooling with the settings of another one.

    Args:
        pool: whose settings are taken over; the scales that it has inferred are not.
    """

    def __init__(self, pool: MultiScaleRoIAlign) -> None:
        super().__init__(
            pool.featmap_names,
            pool.output_size,
            pool.sampling_ratio,
            canonical_scale=pool.canonical_scale,
            canonical_level=pool.canonical_level,
        )
