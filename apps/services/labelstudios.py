"""Label Studio servers: connected, asked for their pictures, and answered with boxes."""

import base64
import hashlib
import json
import secrets
import string
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, scoped_session

from apps import outbound
from apps.errors import N_, AppError, InvalidInput, NotFound, Unauthorized
from apps.models import LabelStudio, User, utcnow
from apps.services.instant import AT_ONCE, InstantService
from apps.services.labelstudio_pictures import SECONDS, Studio
from apps.vision.engine import AUTO
from apps.vision.formats.labelstudio_config import Control, controls_of, result_of

LETTERS = string.ascii_letters + string.digits
SECRET = 40  # characters: 238 bits
PREFIX = 8
MOST = 20  # connections of an account
HOST_LENGTH = 300  # characters
TOKEN_LENGTH = 2000
MOST_TASKS = 5000  # in one question: more than there is time for
FRESH = timedelta(minutes=1)  # how exactly the last use is known
PATIENCE = 80.0  # seconds for all of them; Label Studio itself hangs up after 100


@dataclass(frozen=True)
class Connection:
    """What is known of a Label Studio; plain values that outlive every transaction."""

    id: int
    owner_id: int
    owner: str
    is_admin: bool
    threshold: float
    prefix: str
    host: str
    token: str  # still encrypted
    model: str
    min_score: float


@dataclass(frozen=True)
class Predicted:
    """What one task gets: regions, or the reason why it has no answer."""

    result: list[dict[str, Any]]
    score: float
    error: AppError | None = None


@dataclass(frozen=True)
class LabelStudioService:
    session: scoped_session[Session]
    instant: InstantService
    secret: str  # of the installation: what tokens are encrypted with
    file_bytes: int  # of one picture
    allow_private: bool  # whether any picture may be at an address of the own network
    writing: Callable[[], AbstractContextManager[object]] = nullcontext  # around what writes

    # -- connections -----------------------------------------------------------------------

    def connect(
        self, owner_id: int, host: str, token: str, model: str, min_score: float
    ) -> tuple[LabelStudio, str]:
        """A new connection and the secret of its address, which cannot be had again.

        Args:
            host: where people open that Label Studio.
            token: of theirs there, which fetches pictures; empty: they need none.
            model: empty is the default one.
            min_score: of boxes that become regions, 0 to 1.

        Raises:
            InvalidInput: a rule is broken.
            NotFound: no such model.
        """
        host, token = _clean_host(host), token.strip()
        if len(token) > TOKEN_LENGTH or not token.isascii() or not (token + "x").isprintable():
            raise InvalidInput(N_("This is no token of Label Studio. Copy it again."))
        if not 0 <= min_score <= 1:
            raise InvalidInput(N_("Give a lowest score from 0 to 1."))
        if model:
            self.instant.model_called(model)
        working = select(func.count()).where(LabelStudio.owner_id == owner_id)
        if (self.session.scalar(working) or 0) >= MOST:
            raise InvalidInput(
                N_("You have %(most)s connections already. Remove one that is not needed."),
                most=MOST,
            )
        text = "".join(secrets.choice(LETTERS) for _ in range(SECRET))
        row = LabelStudio(
            owner_id=owner_id,
            digest=_digest(text),
            prefix=text[:PREFIX],
            host=host,
            token=self._fernet().encrypt(token.encode()).decode() if token else "",
            model=model,
            min_score=min_score,
        )
        self.session.add(row)
        self.session.commit()
        return row, text

    def of_owner(self, owner_id: int) -> Sequence[LabelStudio]:
        """The account's connections, the newest first."""
        mine = select(LabelStudio).where(LabelStudio.owner_id == owner_id)
        return self.session.scalars(mine.order_by(LabelStudio.id.desc())).all()

    def remove(self, owner_id: int, connection_id: int) -> None:
        """End a connection: its address is unknown from now on, and the token is forgotten.

        Raises:
            NotFound: no such connection of this owner.
        """
        mine = (LabelStudio.owner_id == owner_id) & (LabelStudio.id == connection_id)
        row = self.session.scalar(select(LabelStudio).where(mine))
        if row is None:
            raise NotFound(N_("There is no such connection."))
        self.session.execute(delete(LabelStudio).where(mine))
        self.session.commit()

    def find(self, secret: str) -> Connection:
        """The connection behind an address; its use is noted. Ends the transaction.

        Raises:
            Unauthorized: there is none, or its account is disabled.
        """
        query = select(LabelStudio, User).join(User, User.id == LabelStudio.owner_id)
        row = self.session.execute(query.where(LabelStudio.digest == _digest(secret))).one_or_none()
        if row is None:
            raise Unauthorized(
                N_("This address is not known here. Make a new one on the page “Connect”.")
            )
        link, user = row
        if not user.active:
            raise Unauthorized(N_("The account of this address is disabled."), user.id)
        found = Connection(
            link.id, user.id, user.username, user.is_admin, user.threshold, link.prefix,
            link.host, link.token, link.model, link.min_score,
        )  # fmt: skip
        now, last = utcnow(), link.last_used_at
        self.session.commit()
        if last is None or now - last >= FRESH:
            with self.writing():
                mine = update(LabelStudio).where(LabelStudio.id == found.id)
                self.session.execute(mine.values(last_used_at=now))
                self.session.commit()
        return found

    # -- predictions -----------------------------------------------------------------------

    def model_of(self, connection: Connection) -> str:
        """The detector that answers; raises as ``model_called``."""
        return self.instant.model_called(connection.model or None)

    def controls(self, config: str, model: str) -> list[Control]:
        """The tags of a project that ``model`` has boxes for.

        Raises:
            InvalidInput: there are none; the text says why.
        """
        found = controls_of(config)
        name, labels = self.classes_of(model)
        classes = {label.casefold() for label in labels}
        useful = [control for control in found if classes & set(control.labels)]
        if not useful:
            raise InvalidInput(
                N_(
                    "None of the project’s labels is a class of the model “%(model)s”. Name the "
                    "labels as its classes (%(some)s …), or write them into predicted_values."
                ),
                model=name,
                some=", ".join(labels[:5]),
            )
        return useful

    def classes_of(self, model: str) -> tuple[str, tuple[str, ...]]:
        """The name that ``model`` has at present, and what it tells apart."""
        models = self.instant.models
        spec = models.current() if model == AUTO else models.registry.get(model)
        self.session.commit()
        return spec.name, tuple(spec.labels)

    def predict(
        self, connection: Connection, tasks: Sequence[Mapping[str, Any]], config: str
    ) -> tuple[str, list[Predicted]]:
        """The model that looked, and one answer for each task, whatever is wrong with others.

        After ``PATIENCE`` seconds no further task is begun.

        Raises:
            InvalidInput: no task could have boxes, or there are too many.
            Unavailable, NotFound: the model cannot be used.
        """
        if len(tasks) > MOST_TASKS:
            raise InvalidInput(N_("Ask for at most %(most)s tasks at once."), most=MOST_TASKS)
        model = self.model_of(connection)
        controls = self.controls(config, model)
        until = time.monotonic() + PATIENCE
        try:
            studio = self._studio(connection)
        except AppError as error:
            return model, [Predicted([], 0.0, error) for _ in tasks]

        def one(task: Mapping[str, Any]) -> Predicted:
            try:
                if time.monotonic() > until:
                    raise outbound.Unanswered(
                        N_(
                            "There was no time left for this task. Retrieve predictions again: "
                            "Label Studio then asks for those that are missing."
                        )
                    )
                return self._task(connection.min_score, studio, task, controls, model)
            except AppError as error:
                return Predicted([], 0.0, error)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return model, list(pool.map(one, tasks))

    def _task(
        self,
        min_score: float,
        studio: Studio,
        task: Mapping[str, Any],
        controls: Sequence[Control],
        model: str,
    ) -> Predicted:
        """Boxes of every picture that a task names; each is fetched and looked at once."""
        data = task.get("data")
        regions: list[dict[str, Any]] = []
        for key in dict.fromkeys(control.data_key for control in controls):
            address = data.get(key) if isinstance(data, Mapping) else None
            if not isinstance(address, str) or not address:
                raise InvalidInput(N_("The task has no picture in “%(key)s”."), key=key[:60])
            picture = studio.picture(address, task.get("id"), self.file_bytes)
            found = self.instant.detect(picture, model)
            size = (found.width, found.height)
            for control in (each for each in controls if each.data_key == key):
                least = min_score if control.min_score is None else control.min_score
                regions += [
                    region
                    for box in found.detections.boxes
                    if box.score >= least
                    and (region := result_of(box, control, size, uuid.uuid4().hex[:10]))
                ]
        return Predicted(regions, max((region["score"] for region in regions), default=0.0))

    def _studio(self, connection: Connection) -> Studio:
        headers = self._headers(connection)
        inside = self._may_ask_inside(connection)
        return Studio(connection.host, headers, inside, self.allow_private)

    def _may_ask_inside(self, connection: Connection) -> bool:
        """Whether the registered server may be in this network: not for everybody who signs up."""
        return self.allow_private or connection.is_admin

    def _headers(self, connection: Connection) -> dict[str, str]:
        """What lets the pictures out. A personal access token is exchanged for a short one."""
        if not connection.token:
            return {}
        try:
            token = self._fernet().decrypt(connection.token.encode()).decode()
        except InvalidToken:
            raise InvalidInput(
                N_("The token of Label Studio cannot be read any more. Connect it again.")
            ) from None
        if token.count(".") != 2:  # of the old kind, which is no JSON Web Token
            return {"Authorization": f"Token {token}"}
        answer = outbound.post(
            f"{connection.host}/api/token/refresh",
            json.dumps({"refresh": token}).encode(),
            {"Content-Type": "application/json"},
            timeout=SECONDS,
            allow_private=self._may_ask_inside(connection),
        )
        try:
            access = json.loads(answer.body)["access"]
        except (ValueError, KeyError, TypeError):
            access = None
        if answer.status != 200 or not isinstance(access, str) or not access.isprintable():
            raise InvalidInput(
                N_("Label Studio does not accept the token (status %(status)s). Connect it again."),
                status=answer.status,
            )
        return {"Authorization": f"Bearer {access}"}

    def _fernet(self) -> Fernet:
        key = hashlib.sha256(b"label studio\0" + self.secret.encode()).digest()
        return Fernet(base64.urlsafe_b64encode(key))


def _clean_host(text: str) -> str:
    """``text`` without its last slash.

    Raises:
        InvalidInput: no address of a server.
    """
    host = text.strip().rstrip("/")
    parts = outbound.require_address(host)
    if parts.query or parts.fragment or len(host) > HOST_LENGTH:
        raise InvalidInput(
            N_("Give the address at which you open Label Studio, for example http://nas:8080.")
        )
    return host


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
