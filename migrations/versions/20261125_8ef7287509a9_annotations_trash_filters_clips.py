"""what people say about boxes; the trash; saved searches; clips

Revision: 8ef7287509a9
After: c1e5a8f03b77
"""

import sqlalchemy as sa
from alembic import op

revision = "8ef7287509a9"
down_revision = "c1e5a8f03b77"
branch_labels = None
depends_on = None

SAID = "annotation_id IS NOT NULL"
TO_REVIEW = "reviewed_at IS NULL AND uncertainty IS NOT NULL"
# What apps/vision/uncertainty.py says of the boxes that are there: s / (1 + s), s at least 0.01.
UNSURE = """
UPDATE images SET uncertainty = 1.0 - 1.0 / (1.0 + (
  SELECT coalesce(sum((1.0 - abs(2.0 * score - 1.0)) * (1.0 - abs(2.0 * score - 1.0))), 0.01)
  FROM detections WHERE detections.image_id = images.id AND detections.model = images.model
)) WHERE model IS NOT NULL
"""


def upgrade() -> None:
    op.create_table(
        "saved_filters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("folded", sa.String(length=180), nullable=False),
        sa.Column("address", sa.String(length=1000), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
            name=op.f("fk_saved_filters_owner_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_filters")),
        sa.UniqueConstraint("owner_id", "folded", name=op.f("uq_saved_filters_owner_id_folded")),
    )
    op.create_table(
        "trashed_images",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("extension", sa.String(length=8), nullable=False),
        sa.Column("copy_extension", sa.String(length=4), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rows", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
            name=op.f("fk_trashed_images_owner_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trashed_images")),
        sa.UniqueConstraint("key", name=op.f("uq_trashed_images_key")),
    )
    op.create_index(
        op.f("ix_trashed_images_deleted_at"), "trashed_images", ["deleted_at"], unique=False
    )
    op.create_index(
        op.f("ix_trashed_images_owner_id_bytes"),
        "trashed_images",
        ["owner_id", "bytes"],
        unique=False,
    )
    op.create_index(
        op.f("ix_trashed_images_owner_id_deleted_at_id"),
        "trashed_images",
        ["owner_id", "deleted_at", "id"],
        unique=False,
    )

    op.create_table(
        "videos",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("extension", sa.String(length=8), nullable=False),
        sa.Column("media_type", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("frames", sa.Integer(), nullable=True),
        sa.Column("every", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "queued",
                "running",
                "done",
                "failed",
                "cancelled",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("error", sa.String(length=300), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claimed_by", sa.String(length=120), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wanted_model", sa.String(length=80), nullable=True),
        sa.Column("model", sa.String(length=80), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("bytes > 0", name=op.f("ck_videos_bytes_positive")),
        sa.CheckConstraint("every > 0", name=op.f("ck_videos_every_positive")),
        sa.CheckConstraint("width > 0 AND height > 0", name=op.f("ck_videos_size_positive")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_videos_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_videos")),
        sa.UniqueConstraint("key", name=op.f("uq_videos_key")),
        sa.UniqueConstraint("owner_id", "sha256", name=op.f("uq_videos_owner_id_sha256")),
    )
    op.create_index(op.f("ix_videos_owner_id_bytes"), "videos", ["owner_id", "bytes"], unique=False)
    op.create_index(op.f("ix_videos_owner_id_id"), "videos", ["owner_id", "id"], unique=False)
    op.create_index(
        op.f("ix_videos_status_queued_at"), "videos", ["status", "queued_at"], unique=False
    )

    op.create_table(
        "annotations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("ref", sa.String(length=36), nullable=False),
        sa.Column("author_id", sa.Integer(), nullable=True),
        sa.Column(
            "verdict",
            sa.Enum(
                "drawn",
                "accepted",
                "changed",
                "rejected",
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("label", sa.String(length=60), nullable=False),
        sa.Column("x1", sa.Double(), nullable=False),
        sa.Column("y1", sa.Double(), nullable=False),
        sa.Column("x2", sa.Double(), nullable=False),
        sa.Column("y2", sa.Double(), nullable=False),
        sa.Column("found_model", sa.String(length=80), nullable=True),
        sa.Column("found_label", sa.String(length=60), nullable=True),
        sa.Column("found_score", sa.Double(), nullable=True),
        sa.Column("found_x1", sa.Double(), nullable=True),
        sa.Column("found_y1", sa.Double(), nullable=True),
        sa.Column("found_x2", sa.Double(), nullable=True),
        sa.Column("found_y2", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(verdict = 'drawn') = (found_model IS NULL)",
            name=op.f("ck_annotations_drawn_or_found"),
        ),
        sa.CheckConstraint("x1 < x2 AND y1 < y2", name=op.f("ck_annotations_box_order")),
        sa.ForeignKeyConstraint(
            ["author_id"],
            ["users.id"],
            name=op.f("fk_annotations_author_id_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["image_id"],
            ["images.id"],
            name=op.f("fk_annotations_image_id_images"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotations")),
        sa.UniqueConstraint("image_id", "ref", name=op.f("uq_annotations_image_id_ref")),
    )
    op.create_index(op.f("ix_annotations_author_id"), "annotations", ["author_id"], unique=False)
    op.create_index(op.f("ix_annotations_label"), "annotations", ["label"], unique=False)

    op.create_table(
        "video_frames",
        sa.Column("video_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("time_ms", sa.Integer(), nullable=False),
        sa.Column("boxes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["video_id"],
            ["videos.id"],
            name=op.f("fk_video_frames_video_id_videos"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("video_id", "number", name=op.f("pk_video_frames")),
    )
    with op.batch_alter_table("detections") as batch_op:
        batch_op.add_column(sa.Column("annotation_id", sa.Integer(), nullable=True))
        batch_op.create_foreign_key(
            "fk_detections_annotation_id_annotations",
            "annotations",
            ["annotation_id"],
            ["id"],
            ondelete="SET NULL",
        )
        batch_op.create_index(
            "ix_detections_annotation_id",
            ["annotation_id"],
            sqlite_where=sa.text(SAID),
            postgresql_where=sa.text(SAID),
        )
    # No batch here: it would copy the whole table on SQLite.
    op.add_column("images", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("images", sa.Column("last_change", sa.String(length=36), nullable=True))
    op.add_column("images", sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("images", sa.Column("uncertainty", sa.Double(), nullable=True))
    op.execute(UNSURE)  # so that the review inbox knows what was detected before
    op.create_index(
        "ix_images_to_review",
        "images",
        ["owner_id", "uncertainty", "id"],
        sqlite_where=sa.text(TO_REVIEW),
        postgresql_where=sa.text(TO_REVIEW),
    )


def downgrade() -> None:
    """What people said about boxes, their trash, their saved searches and clips are lost."""
    op.drop_index("ix_images_to_review", "images")
    for column in ("uncertainty", "reviewed_at", "last_change", "version"):
        op.drop_column("images", column)
    op.drop_index("ix_detections_annotation_id", "detections")
    with op.batch_alter_table("detections") as batch_op:
        batch_op.drop_constraint("fk_detections_annotation_id_annotations", type_="foreignkey")
        batch_op.drop_column("annotation_id")
    for table in ("video_frames", "annotations", "videos", "trashed_images", "saved_filters"):
        op.drop_table(table)
