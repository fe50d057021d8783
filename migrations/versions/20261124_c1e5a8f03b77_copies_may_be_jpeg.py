"""copies for pages may be JPEG; those of earlier uploads are WebP

Revision: c1e5a8f03b77
After: 5b8e2d41c6f0
"""

import sqlalchemy as sa
from alembic import op

revision = "c1e5a8f03b77"
down_revision = "5b8e2d41c6f0"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No batch here: it would copy the whole table on SQLite.
    op.add_column(
        "images",
        sa.Column("copy_extension", sa.String(length=4), server_default="webp", nullable=False),
    )


def downgrade() -> None:
    """Copies made as JPEG are not found afterwards: their pictures must be uploaded again."""
    op.drop_column("images", "copy_extension")
