"""Tags: a person's, a model's, and the list that administrators keep."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, scoped_session

from apps.errors import N_, Conflict, InvalidInput, NotFound
from apps.models import (
    MAX_TAG_LENGTH,
    STANDS,
    UNSAID,
    Annotation,
    Detection,
    Image,
    ImageTag,
    Tag,
    TagCount,
    TagSource,
    User,
    fold,
)
from apps.services.pictures import require_picture

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class TagUse:
    name: str
    count: int


@dataclass(frozen=True)
class TagPlace(TagUse):
    id: int


def clean_name(text: str) -> str:
    """One line of NFC text without surrounding space.

    Raises:
        InvalidInput: empty, too long, or with control characters.
    """
    name = one_line(text)
    if not name:
        raise InvalidInput(N_("Write a tag first."))
    if len(name) > MAX_TAG_LENGTH:
        raise InvalidInput(N_("A tag has at most %(limit)s characters."), limit=MAX_TAG_LENGTH)
    if has_controls(name):
        raise InvalidInput(N_("A tag cannot hold control characters."))
    return name


def one_line(text: str) -> str:
    """``text`` as NFC, with single spaces between its words and none around them."""
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()


def has_controls(text: str) -> bool:
    """Whether characters are in it that nobody sees, or that no database takes."""
    return any(unicodedata.category(c) in ("Cc", "Cs", "Cf") for c in text)


@dataclass(frozen=True)
class TagService:
    session: scoped_session[Session]

    def add(self, owner_id: int, image_id: int, text: str) -> Tag:
        """Put a person's tag on a picture of theirs; again is no error.

        Raises:
            NotFound: no such picture of this owner.
            InvalidInput: not a usable tag.
        """
        name = clean_name(text)
        require_picture(self.session, image_id, owner_id)
        tag = self.ensure(name)
        link = self.session.get(ImageTag, (image_id, tag.id))
        if link is None:
            self.session.add(ImageTag(image_id=image_id, tag_id=tag.id, source=TagSource.PERSON))
        else:
            link.source = TagSource.PERSON
        self.session.commit()
        return tag

    def remove(self, owner_id: int, image_id: int, tag_id: int) -> None:
        """Take a tag off a picture. A model's tag stays off when it is detected again.

        Raises:
            NotFound: no such picture of this owner, or it has no such tag.
        """
        require_picture(self.session, image_id, owner_id)
        link = self.session.get(ImageTag, (image_id, tag_id))
        if link is None or link.source is TagSource.REMOVED:
            raise NotFound(N_("The picture does not have this tag."))
        tag = self.session.get_one(Tag, tag_id)
        if self.with_box(Image.id == image_id, tag.name):
            link.source = TagSource.REMOVED
        else:
            self.session.delete(link)
        self.session.commit()

    def ensure(self, name: str) -> Tag:
        """The tag spelled like ``name``, made if missing; two callers get the same one."""
        query = select(Tag).where(Tag.folded == fold(name))
        tag = self.session.scalar(query)
        if tag is None:
            try:
                with self.session.begin_nested():
                    tag = Tag(name=name, folded=fold(name))
                    self.session.add(tag)
            except IntegrityError:  # another worker was faster
                tag = self.session.scalars(query).one()
        return tag

    def _ids(self, names: Collection[str]) -> set[int]:
        """Of the tags spelled like ``names``; those that are missing are made."""
        folded = {fold(name): name for name in sorted(names)}
        query = select(Tag.folded, Tag.id).where(Tag.folded.in_(folded))
        known = {row[0]: row[1] for row in self.session.execute(query)} if folded else {}
        missing = [name for key, name in folded.items() if key not in known]
        return {*known.values(), *(self.ensure(name).id for name in missing)}

    def set_model_tags(self, image_id: int, labels: Iterable[str]) -> None:
        """Replace the model's tags of a picture; what a person added or removed stays.

        Does not commit: it is a part of recording a detection.
        """
        wanted = self._ids(set(labels))
        of_picture = ImageTag.image_id == image_id
        links = self.session.execute(select(ImageTag.tag_id, ImageTag.source).where(of_picture))
        present = dict(links.all())
        gone = {tag_id for tag_id in present if present[tag_id] is TagSource.MODEL} - wanted
        if gone:
            self.session.execute(delete(ImageTag).where(of_picture, ImageTag.tag_id.in_(gone)))
        new = [
            {"image_id": image_id, "tag_id": tag_id, "source": TagSource.MODEL}
            for tag_id in sorted(wanted - present.keys())
        ]
        if new:
            self.session.execute(insert(ImageTag).values(new))

    def follow_result(self, image_id: int) -> None:
        """Make the model's tags of one picture those of its effective boxes.

        They are the labels of its present result at and above its owner's threshold, except for
        boxes that a person has spoken about: there it is the person's word. Does not commit.
        """
        found = (
            select(Detection.label)
            .select_from(Image)
            .join(Image.detections)
            .join(Image.owner)
            .where(Image.id == image_id, UNSAID, Detection.score >= User.threshold)
        )
        said = select(Annotation.label).where(Annotation.image_id == image_id, STANDS)
        self.set_model_tags(image_id, self.session.scalars(union(found, said)))

    def retag(self, owner_id: int, threshold: float) -> None:
        """Make the model's tags of every picture of an owner follow a new threshold.

        The stored boxes say it all; no inference is needed. Commits.
        """
        mine = select(Image.id).where(Image.owner_id == owner_id)
        found = select(Detection).select_from(Image).join(Image.detections)
        found = found.where(Image.owner_id == owner_id, UNSAID)
        said = select(Annotation).join(Image, Image.id == Annotation.image_id)
        said = said.where(Image.owner_id == owner_id, STANDS)
        labels = self.session.scalars(
            union(
                found.with_only_columns(Detection.label), said.with_only_columns(Annotation.label)
            )
        )
        tag_of = {label: self.ensure(label).id for label in labels}
        self.session.execute(
            delete(ImageTag)
            .where(ImageTag.image_id.in_(mine), ImageTag.source == TagSource.MODEL)
            .execution_options(synchronize_session=False)
        )
        if tag_of:
            sure = found.where(Detection.score >= threshold)
            new = union(
                _tagged(sure, Detection.label, tag_of), _tagged(said, Annotation.label, tag_of)
            )
            names = ["owner_id", "image_id", "tag_id", "source"]
            self.session.execute(insert(ImageTag).from_select(names, new))
        self.session.commit()

    def counts(self, owner_id: int, limit: int = 30) -> list[TagUse]:
        """The owner's most used tags and on how many of their pictures each is."""
        number = func.sum(TagCount.pictures)
        rows = self.session.execute(
            self._owned(owner_id, Tag.name, number).order_by(number.desc(), Tag.name).limit(limit)
        )
        return [TagUse(name, int(count)) for name, count in rows]

    def page(self, owner_id: int, limit: int, after: Sequence[int] | None = None) -> list[TagPlace]:
        """The owner's tags, the most used first, after one with (number of pictures, id)."""
        number = func.sum(TagCount.pictures)
        query = self._owned(owner_id, Tag.id, Tag.name, number)
        if after is not None:
            count, tag_id = after
            query = query.having(or_(number < count, and_(number == count, Tag.id > tag_id)))
        rows = self.session.execute(query.order_by(number.desc(), Tag.id).limit(limit))
        return [TagPlace(name, int(count), tag_id) for tag_id, name, count in rows]

    def names_of(self, owner_id: int) -> list[str]:
        """Every tag on the owner's pictures, for completion while typing."""
        return list(self.session.scalars(self._owned(owner_id, Tag.name).order_by(Tag.name)))

    def _owned(self, owner_id: int, *columns: Any) -> Select[*tuple[Any, ...]]:
        return (
            select(*columns)
            .join_from(Tag, TagCount, TagCount.tag_id == Tag.id)
            .where(TagCount.owner_id == owner_id)
            .group_by(Tag.id, Tag.name)
            .having(func.sum(TagCount.pictures) > 0)
        )

    # -- for administrators ----------------------------------------------------------------

    def all_query(self, search: str = "", sort: str = "name") -> Select[Tag, int]:
        """Rows (tag, number of pictures)."""
        number = func.coalesce(func.sum(TagCount.pictures), 0)
        query = select(Tag, number.label("pictures"))
        query = query.outerjoin(TagCount, TagCount.tag_id == Tag.id).group_by(Tag.id)
        if search:
            query = query.where(Tag.folded.contains(fold(search), autoescape=True))
        order = {
            "name": (Tag.folded.asc(),),
            "-name": (Tag.folded.desc(),),
            "pictures": (number.asc(), Tag.folded.asc()),
            "-pictures": (number.desc(), Tag.folded.asc()),
            "created": (Tag.created_at.asc(), Tag.id.asc()),
            "-created": (Tag.created_at.desc(), Tag.id.desc()),
        }
        return query.order_by(*order.get(sort, order["name"]))

    def get(self, tag_id: int) -> Tag:
        tag = self.session.get(Tag, tag_id)
        if tag is None:
            raise NotFound(N_("There is no such tag."))
        return tag

    def find(self, text: str) -> Tag | None:
        """The tag spelled like ``text``, if there is one."""
        return self._spelled_like(clean_name(text))

    def several(self, tag_ids: Iterable[int]) -> list[tuple[Tag, int]]:
        """(tag, number of pictures) of those of ``tag_ids`` that exist, by name."""
        query = self.all_query().where(Tag.id.in_(list(tag_ids)))
        return [(row[0], row[1]) for row in self.session.execute(query)]

    def picture_count(self, tag_id: int) -> int:
        query = select(func.sum(TagCount.pictures)).where(TagCount.tag_id == tag_id)
        return int(self.session.scalar(query) or 0)

    def create(self, text: str) -> Tag:
        """Raises Conflict if the tag exists, InvalidInput if it is not usable."""
        name = clean_name(text)
        if self._spelled_like(name) is not None:
            raise Conflict(N_("The tag “%(name)s” exists already."), name=name)
        tag = self.ensure(name)
        self.session.commit()
        return tag

    def rename(self, tag_id: int, text: str, *, merge: bool = False) -> Tag:
        """Rename a tag; onto an existing one only with ``merge``, which joins the two.

        Raises:
            Conflict: another tag has this name and ``merge`` is false.
        """
        name = clean_name(text)
        tag = self.get(tag_id)
        other = self._spelled_like(name)
        if other is not None and other.id != tag.id:
            if not merge:
                raise Conflict(N_("The tag “%(name)s” exists already."), name=other.name)
            self._merge(tag, other)
            return other
        tag.name, tag.folded = name, fold(name)
        self.session.commit()
        return tag

    def delete(self, tag_ids: Iterable[int]) -> int:
        """Remove tags from the list and from every picture; the number that existed."""
        found = self.session.scalars(
            delete(Tag).where(Tag.id.in_(list(tag_ids))).returning(Tag.id)
        ).all()
        self.session.commit()
        return len(found)

    def _merge(self, tag: Tag, into: Tag) -> None:
        """Move every link of ``tag``; where both tags have one, the stronger word stays.

        A person who added either tag wins, then one who took either off, then the model.
        """
        both = (tag.id, into.id)
        for source, yielding in (
            (TagSource.REMOVED, (TagSource.MODEL,)),
            (TagSource.PERSON, (TagSource.MODEL, TagSource.REMOVED)),
        ):
            link = aliased(ImageTag)
            images = select(link.image_id).where(link.tag_id.in_(both), link.source == source)
            self.session.execute(
                update(ImageTag)
                .where(
                    ImageTag.tag_id.in_(both),
                    ImageTag.source.in_(yielding),
                    ImageTag.image_id.in_(images),
                )
                .values(source=source)
            )
        there = select(ImageTag.image_id).where(ImageTag.tag_id == into.id)
        self.session.execute(
            delete(ImageTag).where(ImageTag.tag_id == tag.id, ImageTag.image_id.in_(there))
        )
        self.session.execute(
            update(ImageTag).where(ImageTag.tag_id == tag.id).values(tag_id=into.id)
        )
        self.session.execute(delete(Tag).where(Tag.id == tag.id))
        self.session.commit()

    def _spelled_like(self, name: str) -> Tag | None:
        return self.session.scalar(select(Tag).where(Tag.folded == fold(name)))

    def with_box(self, which: ColumnElement[bool], name: str) -> list[int]:
        """Ids of the pictures with a box, of a model or a person, that is called like a tag.

        There the tag would come back by itself.

        Args:
            which: a condition on ``Image``.
        """
        found = select(Image.id, Detection.label).join(Image.detections).where(which)
        said = (
            select(Image.id, Annotation.label)
            .join(Annotation, Annotation.image_id == Image.id)
            .where(which, STANDS)
        )
        rows = self.session.execute(union(found, said))
        return sorted({image_id for image_id, label in rows if fold(label) == fold(name)})


def _tagged(
    boxes: Select[Any], label: InstrumentedAttribute[str], tag_of: dict[str, int]
) -> Select[*tuple[Any, ...]]:
    """Rows of ImageTag for ``boxes`` joined to their pictures, where there is no such row yet."""
    tag_id = case(tag_of, value=label)
    kept = exists().where(ImageTag.image_id == Image.id, ImageTag.tag_id == tag_id)
    source = literal(TagSource.MODEL.value)
    return boxes.where(~kept).with_only_columns(Image.owner_id, Image.id, tag_id, source)
