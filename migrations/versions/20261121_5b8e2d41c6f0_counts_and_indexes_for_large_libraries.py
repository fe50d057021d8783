"""counts kept by triggers, and indexes for large libraries

Revision: 5b8e2d41c6f0
After: 7d0c5a1e94b2
"""

import sqlalchemy as sa
from alembic import context, op

revision = "5b8e2d41c6f0"
down_revision = "7d0c5a1e94b2"
branch_labels = None
depends_on = None

# As in apps/models/triggers.py, which a test compares with these.
SQLITE = (
    """
CREATE TRIGGER images_counted_in AFTER INSERT ON images BEGIN
  UPDATE picture_counts SET pictures = pictures + 1, bytes = bytes + NEW.bytes
    WHERE owner_id = NEW.owner_id;
  INSERT INTO picture_counts (owner_id, pictures, bytes)
    SELECT NEW.owner_id, 1, NEW.bytes WHERE changes() = 0;
END
""",
    """
CREATE TRIGGER images_counted_out AFTER DELETE ON images BEGIN
  UPDATE picture_counts SET pictures = pictures - 1, bytes = bytes - OLD.bytes
    WHERE owner_id = OLD.owner_id;
  DELETE FROM picture_counts WHERE owner_id = OLD.owner_id AND pictures = 0;
END
""",
    """
CREATE TRIGGER images_counted_over AFTER UPDATE OF owner_id, bytes ON images BEGIN
  UPDATE picture_counts SET pictures = pictures - 1, bytes = bytes - OLD.bytes
    WHERE owner_id = OLD.owner_id;
  DELETE FROM picture_counts WHERE owner_id = OLD.owner_id AND pictures = 0;
  UPDATE picture_counts SET pictures = pictures + 1, bytes = bytes + NEW.bytes
    WHERE owner_id = NEW.owner_id;
  INSERT INTO picture_counts (owner_id, pictures, bytes)
    SELECT NEW.owner_id, 1, NEW.bytes WHERE changes() = 0;
END
""",
    """
CREATE VIRTUAL TABLE IF NOT EXISTS image_titles USING fts5(
  folded, content = 'images', content_rowid = 'id', columnsize = 0,
  tokenize = 'trigram case_sensitive 1'
)
""",
    """
CREATE TRIGGER images_title_in AFTER INSERT ON images BEGIN
  INSERT INTO image_titles (rowid, folded) VALUES (NEW.id, NEW.folded);
END
""",
    """
CREATE TRIGGER images_title_out AFTER DELETE ON images BEGIN
  INSERT INTO image_titles (image_titles, rowid, folded) VALUES ('delete', OLD.id, OLD.folded);
END
""",
    """
CREATE TRIGGER images_title_over AFTER UPDATE OF folded ON images BEGIN
  INSERT INTO image_titles (image_titles, rowid, folded) VALUES ('delete', OLD.id, OLD.folded);
  INSERT INTO image_titles (rowid, folded) VALUES (NEW.id, NEW.folded);
END
""",
    """
CREATE TRIGGER image_tags_owned AFTER INSERT ON image_tags WHEN NEW.owner_id = 0 BEGIN
  UPDATE image_tags SET owner_id = (SELECT owner_id FROM images WHERE id = NEW.image_id)
    WHERE image_id = NEW.image_id AND tag_id = NEW.tag_id;
END
""",
    """
CREATE TRIGGER image_tags_counted_in AFTER INSERT ON image_tags
WHEN NEW.source <> 'removed' AND NEW.owner_id <> 0 BEGIN
  UPDATE tag_counts SET pictures = pictures + 1
    WHERE owner_id = NEW.owner_id AND tag_id = NEW.tag_id;
  INSERT INTO tag_counts (owner_id, tag_id, pictures)
    SELECT NEW.owner_id, NEW.tag_id, 1 WHERE changes() = 0;
END
""",
    """
CREATE TRIGGER image_tags_counted_out AFTER DELETE ON image_tags
WHEN OLD.source <> 'removed' BEGIN
  UPDATE tag_counts SET pictures = pictures - 1
    WHERE owner_id = OLD.owner_id AND tag_id = OLD.tag_id;
  DELETE FROM tag_counts
    WHERE owner_id = OLD.owner_id AND tag_id = OLD.tag_id AND pictures = 0;
END
""",
    """
CREATE TRIGGER image_tags_counted_over AFTER UPDATE ON image_tags BEGIN
  UPDATE tag_counts SET pictures = pictures - 1
    WHERE owner_id = OLD.owner_id AND tag_id = OLD.tag_id AND OLD.source <> 'removed';
  DELETE FROM tag_counts
    WHERE owner_id = OLD.owner_id AND tag_id = OLD.tag_id AND pictures = 0;
  UPDATE tag_counts SET pictures = pictures + 1
    WHERE owner_id = NEW.owner_id AND tag_id = NEW.tag_id AND NEW.source <> 'removed';
  INSERT INTO tag_counts (owner_id, tag_id, pictures)
    SELECT NEW.owner_id, NEW.tag_id, 1 WHERE NEW.source <> 'removed' AND changes() = 0;
END
""",
)
POSTGRESQL = (
    """
CREATE OR REPLACE FUNCTION count_pictures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO picture_counts (owner_id, pictures, bytes)
    SELECT owner_id, TG_ARGV[0]::integer * count(*), TG_ARGV[0]::integer * sum(bytes)
    FROM touched GROUP BY owner_id;
  WITH joined AS (
    DELETE FROM picture_counts WHERE id IN (
      SELECT id FROM picture_counts WHERE owner_id IN (SELECT owner_id FROM touched)
      FOR UPDATE SKIP LOCKED
    ) RETURNING owner_id, pictures, bytes
  )
  INSERT INTO picture_counts (owner_id, pictures, bytes)
    SELECT owner_id, sum(pictures), sum(bytes) FROM joined GROUP BY owner_id
    HAVING sum(pictures) <> 0 OR sum(bytes) <> 0;
  RETURN NULL;
END $$
""",
    """
CREATE OR REPLACE FUNCTION count_moved_picture() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO picture_counts (owner_id, pictures, bytes)
    VALUES (OLD.owner_id, -1, -OLD.bytes), (NEW.owner_id, 1, NEW.bytes);
  RETURN NULL;
END $$
""",
    """
CREATE OR REPLACE FUNCTION fold_title() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.folded := lower(NEW.title);
  RETURN NEW;
END $$
""",
    """
CREATE TRIGGER folded BEFORE INSERT ON images FOR EACH ROW WHEN (NEW.folded = '')
EXECUTE FUNCTION fold_title()
""",
    """
CREATE TRIGGER counted_in AFTER INSERT ON images REFERENCING NEW TABLE AS touched
FOR EACH STATEMENT EXECUTE FUNCTION count_pictures('1')
""",
    """
CREATE TRIGGER counted_out AFTER DELETE ON images REFERENCING OLD TABLE AS touched
FOR EACH STATEMENT EXECUTE FUNCTION count_pictures('-1')
""",
    """
CREATE TRIGGER counted_over AFTER UPDATE OF owner_id, bytes ON images
FOR EACH ROW EXECUTE FUNCTION count_moved_picture()
""",
    """
DO $$ BEGIN
  CREATE EXTENSION IF NOT EXISTS pg_trgm;
  CREATE INDEX IF NOT EXISTS ix_images_folded_trigrams ON images USING gin (folded gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
  RAISE WARNING 'no pg_trgm: the search for titles reads all of them';
END $$
""",
    """
CREATE OR REPLACE FUNCTION count_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO tag_counts (owner_id, tag_id, pictures)
    SELECT owner_id, tag_id, TG_ARGV[0]::integer * count(*)
    FROM touched WHERE source <> 'removed' GROUP BY owner_id, tag_id;
  WITH joined AS (
    DELETE FROM tag_counts WHERE id IN (
      SELECT id FROM tag_counts
      WHERE (owner_id, tag_id) IN (SELECT owner_id, tag_id FROM touched)
      FOR UPDATE SKIP LOCKED
    ) RETURNING owner_id, tag_id, pictures
  )
  INSERT INTO tag_counts (owner_id, tag_id, pictures)
    SELECT owner_id, tag_id, sum(pictures) FROM joined GROUP BY owner_id, tag_id
    HAVING sum(pictures) <> 0;
  RETURN NULL;
END $$
""",
    """
CREATE OR REPLACE FUNCTION own_tag() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  SELECT owner_id INTO NEW.owner_id FROM images WHERE id = NEW.image_id;
  RETURN NEW;
END $$
""",
    """
CREATE TRIGGER owned BEFORE INSERT ON image_tags FOR EACH ROW WHEN (NEW.owner_id = 0)
EXECUTE FUNCTION own_tag()
""",
    """
CREATE TRIGGER counted_in AFTER INSERT ON image_tags REFERENCING NEW TABLE AS touched
FOR EACH STATEMENT EXECUTE FUNCTION count_tags('1')
""",
    """
CREATE TRIGGER counted_out AFTER DELETE ON image_tags REFERENCING OLD TABLE AS touched
FOR EACH STATEMENT EXECUTE FUNCTION count_tags('-1')
""",
    """
CREATE TRIGGER counted_over_out AFTER UPDATE ON image_tags REFERENCING OLD TABLE AS touched
FOR EACH STATEMENT EXECUTE FUNCTION count_tags('-1')
""",
    """
CREATE TRIGGER counted_over_in AFTER UPDATE ON image_tags REFERENCING NEW TABLE AS touched
FOR EACH STATEMENT EXECUTE FUNCTION count_tags('1')
""",
)
NOT_DONE = sa.text("status <> 'done'")
VISIBLE = sa.text("source <> 'removed'")
IMAGE_INDEXES = {
    "ix_images_created_at_id": ["created_at", "id"],
    "ix_images_bytes_id": ["bytes", "id"],
    "ix_images_folded_id": ["folded", "id"],
}
BATCH = 1000


def upgrade() -> None:
    _upgrade_images()
    _upgrade_image_tags()
    _create_counts()
    if op.get_context().dialect.name == "sqlite":
        _execute(*SQLITE, "INSERT INTO image_titles (image_titles) VALUES ('rebuild')")
    else:
        _execute(*POSTGRESQL)


def _upgrade_images() -> None:
    # No batch here: it would copy the whole table on SQLite, which can do this by itself.
    op.add_column(
        "images", sa.Column("folded", sa.String(length=360), server_default="", nullable=False)
    )
    _fold_titles()
    for name, columns in IMAGE_INDEXES.items():
        op.create_index(name, "images", columns)
    op.create_index(
        "ix_images_not_done",
        "images",
        ["owner_id", "status", "id"],
        sqlite_where=NOT_DONE,
        postgresql_where=NOT_DONE,
    )
    op.create_index("ix_images_owner_id_id", "images", ["owner_id", "id"], unique=True)
    op.drop_index("ix_images_owner_id_created_at_id", "images")


def _fold_titles() -> None:
    """In Python, because the lower() of SQLite knows no letters beyond ASCII."""
    if context.is_offline_mode():  # "flask db upgrade --sql" can only show something like it
        _execute("UPDATE images SET folded = lower(title)")
        return
    images = sa.table("images", sa.column("id"), sa.column("title"), sa.column("folded"))
    change = sa.update(images).where(images.c.id == sa.bindparam("row"))
    change = change.values(folded=sa.bindparam("text"))
    connection, last = op.get_bind(), 0
    rows = sa.select(images.c.id, images.c.title).order_by(images.c.id).limit(BATCH)
    while found := connection.execute(rows.where(images.c.id > last)).all():
        connection.execute(change, [{"row": i, "text": title.casefold()} for i, title in found])
        last = found[-1].id


def _upgrade_image_tags() -> None:
    op.add_column(
        "image_tags", sa.Column("owner_id", sa.Integer(), server_default="0", nullable=False)
    )
    op.execute(
        "UPDATE image_tags SET owner_id = "
        "(SELECT owner_id FROM images WHERE images.id = image_tags.image_id)"
    )
    with op.batch_alter_table("image_tags") as batch_op:
        batch_op.drop_constraint("fk_image_tags_image_id_images", type_="foreignkey")
        batch_op.create_foreign_key(
            batch_op.f("fk_image_tags_owner_id_images"),
            "images",
            ["owner_id", "image_id"],
            ["owner_id", "id"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        )
    op.create_index(
        "ix_image_tags_visible",
        "image_tags",
        ["owner_id", "tag_id", "image_id"],
        sqlite_where=VISIBLE,
        postgresql_where=VISIBLE,
    )


def _create_counts() -> None:
    op.create_table(
        "picture_counts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("pictures", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_picture_counts")),
    )
    op.create_index("ix_picture_counts_owner_id", "picture_counts", ["owner_id"])
    op.create_table(
        "tag_counts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("pictures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tag_counts")),
    )
    op.create_index("ix_tag_counts_owner_id_tag_id", "tag_counts", ["owner_id", "tag_id"])
    op.create_index("ix_tag_counts_tag_id", "tag_counts", ["tag_id"])
    _execute(
        "INSERT INTO picture_counts (owner_id, pictures, bytes) "
        "SELECT owner_id, count(*), sum(bytes) FROM images GROUP BY owner_id",
        "INSERT INTO tag_counts (owner_id, tag_id, pictures) SELECT owner_id, tag_id, count(*) "
        "FROM image_tags WHERE source <> 'removed' GROUP BY owner_id, tag_id",
    )


def downgrade() -> None:
    _drop_triggers()
    op.drop_table("tag_counts")
    op.drop_table("picture_counts")
    op.drop_index("ix_image_tags_visible", "image_tags")
    with op.batch_alter_table("image_tags") as batch_op:
        batch_op.drop_constraint("fk_image_tags_owner_id_images", type_="foreignkey")
        batch_op.create_foreign_key(
            batch_op.f("fk_image_tags_image_id_images"),
            "images",
            ["image_id"],
            ["id"],
            ondelete="CASCADE",
        )
        batch_op.drop_column("owner_id")
    op.create_index("ix_images_owner_id_created_at_id", "images", ["owner_id", "created_at", "id"])
    for name in (*IMAGE_INDEXES, "ix_images_not_done", "ix_images_owner_id_id"):
        op.drop_index(name, "images")
    op.drop_column("images", "folded")


def _drop_triggers() -> None:
    if op.get_context().dialect.name == "sqlite":
        names = [statement.split()[2] for statement in SQLITE if "CREATE TRIGGER" in statement]
        _execute(*(f"DROP TRIGGER {name}" for name in names), "DROP TABLE image_titles")
        return
    for statement in POSTGRESQL:
        words = statement.split()
        if words[1] == "TRIGGER":
            _execute(f"DROP TRIGGER {words[2]} ON {words[words.index('ON') + 1]}")
    for name in ("count_pictures", "count_moved_picture", "count_tags", "fold_title", "own_tag"):
        _execute(f"DROP FUNCTION {name}()")
    _execute("DROP INDEX IF EXISTS ix_images_folded_trigrams")


def _execute(*statements: str) -> None:
    for statement in statements:
        op.execute(sa.text(statement))
