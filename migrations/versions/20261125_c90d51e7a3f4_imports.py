"""archives of labelled pictures that people bring

Revision: c90d51e7a3f4
After: 4be7d20c91aa
"""

import sqlalchemy as sa
from alembic import op

revision = "c90d51e7a3f4"
down_revision = "4be7d20c91aa"
branch_labels = None
depends_on = None

STATUS = ("waiting", "checking", "ready", "queued", "running", "done", "failed", "cancelled",
          "undone")  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "imports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(*STATUS, name="status", native_enum=False, create_constraint=True, length=16),
            nullable=False,
        ),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("error_params", sa.JSON(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("options", sa.JSON(), nullable=True),
        sa.Column("pictures", sa.Integer(), nullable=False),
        sa.Column("boxes", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claimed_by", sa.String(length=120), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_imports_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
        sa.UniqueConstraint("key", name=op.f("uq_imports_key")),
    )
    op.create_index(op.f("ix_imports_owner_id_id"), "imports", ["owner_id", "id"], unique=False)
    op.create_index(
        op.f("ix_imports_status_queued_at"), "imports", ["status", "queued_at"], unique=False
    )
    op.create_table(
        "imported_pictures",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("import_id", sa.Integer(), nullable=False),
        sa.Column("extension", sa.String(length=8), nullable=False),
        sa.Column("copy_extension", sa.String(length=4), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["imports.id"],
            name=op.f("fk_imported_pictures_import_id_imports"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_imported_pictures")),
    )
    op.create_index(
        op.f("ix_imported_pictures_import_id"), "imported_pictures", ["import_id"], unique=False
    )


def downgrade() -> None:
    """Imports that still run are forgotten; pictures that came stay."""
    for table in ("imported_pictures", "imports"):
        op.drop_table(table)
