"""exports that are made in the background

Revision: d2f7a90b6e15
After: c90d51e7a3f4
"""

import sqlalchemy as sa
from alembic import op

revision = "d2f7a90b6e15"
down_revision = "c90d51e7a3f4"
branch_labels = None
depends_on = None

STATES = ("queued", "running", "ready", "failed", "cancelled", "expired")


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("image_ids", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("search", sa.String(length=500), nullable=True),
        sa.Column("boxes", sa.String(length=8), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("with_pictures", sa.Boolean(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(*STATES, name="status", native_enum=False, create_constraint=True, length=16),
            nullable=False,
        ),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("error", sa.String(length=300), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claimed_by", sa.String(length=120), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("threshold BETWEEN 0 AND 1", name=op.f("ck_exports_threshold_range")),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
            name=op.f("fk_exports_owner_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
        sa.UniqueConstraint("key", name=op.f("uq_exports_key")),
    )
    with op.batch_alter_table("exports") as table:
        table.create_index(op.f("ix_exports_owner_id_id"), ["owner_id", "id"])
        table.create_index(op.f("ix_exports_status_queued_at"), ["status", "queued_at"])
        table.create_index(op.f("ix_exports_expires_at"), ["expires_at"])


def downgrade() -> None:
    op.drop_table("exports")
