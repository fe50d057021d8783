"""What the database does by itself when pictures and their tags change: see decision 0011.

``create_all`` reads this; a migration has the same words in its own copy, and a test compares what
both make.
"""

from sqlalchemy import DDL, event

from apps.extensions import Base
from apps.models import image, tag  # noqa: F401  (the tables)

# SQLite: one trigger for each row. It knows no other, and its writers wait for each other anyway.
SQLITE_IMAGES = (
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
)

# Trigrams of the titles, for "contains"; FTS5 keeps no copy of the titles themselves.
SQLITE_TITLES = (
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
)

# A link that is written without its owner (0) gets the picture's: the version before this one knew
# no such column and may still be at work beside it.
SQLITE_TAGS = (
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

# PostgreSQL: one trigger for each statement. It notes the change as new rows, which waits for
# nobody, and then joins those rows of the same owner that no other transaction is joining.
POSTGRESQL_IMAGES = (
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
)

# A trusted extension: whoever owns the database may install it.
POSTGRESQL_TITLES = (
    """
DO $$ BEGIN
  CREATE EXTENSION IF NOT EXISTS pg_trgm;
  CREATE INDEX IF NOT EXISTS ix_images_folded_trigrams ON images USING gin (folded gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
  RAISE WARNING 'no pg_trgm: the search for titles reads all of them';
END $$
""",
)

POSTGRESQL_TAGS = (
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


def _create_with(name: str, dialect: str, *statements: str) -> None:
    for statement in statements:
        ddl = DDL(statement.strip())  # type: ignore[no-untyped-call]
        table = Base.metadata.tables[name]
        event.listen(table, "after_create", ddl.execute_if(dialect=dialect))


_create_with("images", "sqlite", *SQLITE_IMAGES, *SQLITE_TITLES)
_create_with("image_tags", "sqlite", *SQLITE_TAGS)
_create_with("images", "postgresql", *POSTGRESQL_IMAGES, *POSTGRESQL_TITLES)
_create_with("image_tags", "postgresql", *POSTGRESQL_TAGS)
