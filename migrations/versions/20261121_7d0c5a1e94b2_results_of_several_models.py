"""results of several models, and masks

Revision: 7d0c5a1e94b2
After: a41f0c5d7e92
"""

import sqlalchemy as sa
from alembic import op

revision = "7d0c5a1e94b2"
down_revision = "a41f0c5d7e92"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "results",
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=80), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_results_image_id_images"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "model", name=op.f("pk_results")),
    )
    op.execute(
        "INSERT INTO results (image_id, model, detected_at, duration_ms) "
        "SELECT id, model, COALESCE(detected_at, created_at), duration_ms "
        "FROM images WHERE model IS NOT NULL"
    )
    with op.batch_alter_table("detections", schema=None) as batch_op:
        batch_op.add_column(sa.Column("mask", sa.Text(), nullable=True))
        batch_op.drop_index(batch_op.f("ix_detections_image_id"))
        batch_op.create_index(
            batch_op.f("ix_detections_image_id_model"), ["image_id", "model"], unique=False
        )


def downgrade() -> None:
    # Before, all boxes of a picture were those of its present result.
    op.execute(
        "DELETE FROM detections WHERE NOT EXISTS (SELECT 1 FROM images "
        "WHERE images.id = detections.image_id AND images.model = detections.model)"
    )
    with op.batch_alter_table("detections", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_detections_image_id_model"))
        batch_op.create_index(batch_op.f("ix_detections_image_id"), ["image_id"], unique=False)
        batch_op.drop_column("mask")
    op.drop_table("results")
