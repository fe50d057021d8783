"""Label Studio servers that ask for boxes

Revision: 6c2f9a71b3d4
After: 4be7d20c91aa
"""

import sqlalchemy as sa
from alembic import op

revision = "6c2f9a71b3d4"
down_revision = "b3f1c07d5a24"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "label_studios",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=300), nullable=False),
        sa.Column("token", sa.String(length=4000), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("min_score", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "min_score BETWEEN 0 AND 1", name=op.f("ck_label_studios_min_score_range")
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
            name=op.f("fk_label_studios_owner_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_studios")),
        sa.UniqueConstraint("digest", name=op.f("uq_label_studios_digest")),
    )
    op.create_index(
        op.f("ix_label_studios_owner_id_id"), "label_studios", ["owner_id", "id"], unique=False
    )


def downgrade() -> None:
    """Every connection of a Label Studio ends."""
    op.drop_table("label_studios")
