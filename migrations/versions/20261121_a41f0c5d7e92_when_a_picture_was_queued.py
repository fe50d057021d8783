"""when a picture was queued, and indexes for the status page

Revision: a41f0c5d7e92
After: 7d1b0c94e2aa
"""

import sqlalchemy as sa
from alembic import op

revision = "a41f0c5d7e92"
down_revision = "7d1b0c94e2aa"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_images_status_queued_at": ["status", "queued_at"],
    "ix_images_status_claimed_at": ["status", "claimed_at"],
    "ix_images_detected_at": ["detected_at"],
}


def upgrade() -> None:
    # No batch here: it would copy the whole table on SQLite, which can do both by itself.
    op.add_column("images", sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE images SET queued_at = created_at")
    for name, columns in INDEXES.items():
        op.create_index(name, "images", columns)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "images")
    op.drop_column("images", "queued_at")
