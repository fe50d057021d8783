"""What a network says about one picture as a whole: an upload, a stored one, or a box of it."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from PIL.Image import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Busy, ConfigError, InvalidInput, NotFound, Unavailable, WeightsError
from apps.models import Detection, Image
from apps.services.images import ImageService
from apps.services.pictures import NO_PICTURE
from apps.services.uploads import Limits, read_upload
from apps.vision.crop import Corners, crop
from apps.vision.decode import decode
from apps.vision.types import Classification, Classifier, Explanation, Layer
from apps.vision.zoo.classifiers import ClassifierSpec, classifiers, get_classifier
from apps.vision.zoo.downloads import Downloads
from apps.vision.zoo.store import WeightsState, WeightsStore

AT_ONCE = 4  # pictures in one process; the web server answers other pages meanwhile
PATIENCE = 2.0  # seconds that a further one waits for its turn
SIDE = 1024  # pixels: no network here reads more than a quarter of that
MARGIN = 0.1  # around a box, as a part of its longer side


@dataclass(frozen=True)
class ClassifierState:
    """One network and its weights at this moment."""

    spec: ClassifierSpec
    state: WeightsState

    @property
    def ready(self) -> bool:
        return self.state is WeightsState.READY


@dataclass(frozen=True)
class Place:
    """Where a stored picture, or the part of one that a box frames, is found."""

    image: Image
    box: Detection | None = None


@dataclass(frozen=True)
class Answer:
    """What a network said, and if it was asked, why."""

    classification: Classification
    explanation: Explanation | None = None


@dataclass(frozen=True)
class ClassificationService:
    session: scoped_session[Session]
    images: ImageService
    classifier: Classifier
    store: WeightsStore
    downloads: Downloads
    limits: Limits
    patience: float = PATIENCE
    slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(AT_ONCE)
    )

    # -- networks --------------------------------------------------------------------------

    def all(self) -> list[ClassifierState]:
        """Every network, in the order of the registry."""
        return [self._state(spec) for spec in classifiers()]

    def get(self, name: str) -> ClassifierState:
        """Raises NotFound if there is no such network."""
        return self._state(get_classifier(name))

    def fetch(self, name: str) -> None:
        """Begin to download the weights of ``name`` in the background.

        Raises:
            NotFound: no such network.
        """
        self.downloads.start(get_classifier(name).weights)

    def verify(self, name: str) -> None:
        """Read the weights of ``name`` as a whole; no transaction stays open meanwhile.

        Raises:
            NotFound: no such network.
            WeightsError: missing, unreadable, or not the expected file.
        """
        file = get_classifier(name).weights
        self.session.commit()
        self.store.verify(file)

    def layers(self, name: str) -> tuple[Layer, ...]:
        """The network layer by layer; its weights are not needed.

        Raises:
            NotFound: no such network.
            Busy: too much is going on already.
        """
        get_classifier(name)
        self.session.commit()
        with self._slot():
            return self.classifier.layers(name)

    # -- pictures --------------------------------------------------------------------------

    def read(self, stream: BinaryIO) -> Picture:
        """An uploaded file as an upright RGB picture, which is not kept.

        Raises:
            InvalidImage: as UploadService.upload, for what concerns the file alone.
        """
        data = read_upload(stream, self.limits.file_bytes)
        self.session.commit()  # decoding is slow: no transaction stays open meanwhile
        return _small(decode(data, self.limits.image_pixels, SIDE).picture)

    def place(self, owner_id: int, image_id: int, box_id: int | None = None) -> Place:
        """A picture of ``owner_id``, or one box in it.

        Raises:
            NotFound: no such picture of this owner, or no such box in it.
        """
        mine = (Image.id == image_id, Image.owner_id == owner_id)
        if box_id is None:
            image = self.session.scalar(select(Image).where(*mine))
            if image is None:
                raise NotFound(NO_PICTURE)
            self.session.expunge(image)  # it is read after the transaction too, and may be gone
            return Place(image)
        query = select(Image, Detection).join(Detection, Detection.image_id == Image.id)
        row = self.session.execute(query.where(*mine, Detection.id == box_id)).one_or_none()
        if row is None:
            raise NotFound(N_("There is no such box. Its picture may have been detected again."))
        for part in row:
            self.session.expunge(part)
        return Place(row.Image, row.Detection)

    def open(self, place: Place, margin: float = MARGIN) -> Picture:
        """The upright RGB picture at ``place``.

        Args:
            margin: what is shown around a box, as a part of its longer side.

        Raises:
            NotFound, Unavailable: as ImageService.read_original.
        """
        size, box = (place.image.width, place.image.height), _corners(place.box)
        data = self.images.read_original(place.image)  # ends the transaction
        if box is None:
            return _small(decode(data, side=SIDE).picture)
        part = max(box[2] - box[0], box[3] - box[1]) / max(size)
        decoded = decode(data, side=math.ceil(SIDE / part))
        return _small(crop(decoded.picture, box, decoded.size, margin))

    # -- answers ---------------------------------------------------------------------------

    def answer(
        self,
        name: str,
        picture: Picture,
        *,
        top: int = 5,
        invert: bool | None = None,
        explain: bool = False,
    ) -> Answer:
        """The ``top`` most probable classes of an upright RGB ``picture``.

        Args:
            name: of the network.
            invert: as Classifier.classify.
            explain: whether to show why, which takes a few times as long.

        Raises:
            NotFound: no such network.
            InvalidInput: its weights are not here yet.
            Unavailable: its weights, or the chosen device, cannot be used.
            DeviceLost: the GPU stopped working.
            Busy: too many pictures are being classified already, or memory is short.
        """
        if not self.get(name).ready:
            raise InvalidInput(
                N_("The weights of “%(name)s” are not here yet. An administrator can fetch them."),
                name=name,
            )
        try:
            with self._slot():
                found = self.classifier.classify(picture, name, top=top, invert=invert)
                why = self.classifier.explain(picture, name, invert=invert) if explain else None
        except (WeightsError, ConfigError) as error:
            raise Unavailable(error.message, **error.params) from error
        return Answer(found, why)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self.slots.acquire(timeout=self.patience):
            raise Busy(N_("Many pictures are being classified just now. Try again in a moment."))
        try:
            yield
        finally:
            self.slots.release()

    def _state(self, spec: ClassifierSpec) -> ClassifierState:
        return ClassifierState(spec, self.store.state(spec.weights))


def _corners(box: Detection | None) -> Corners | None:
    return None if box is None else (box.x1, box.y1, box.x2, box.y2)


def _small(picture: Picture) -> Picture:
    """``picture``, shrunk in place to what a network may need of it."""
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE))
    return picture
