"""which token made a webhook

Revision: 1d7e53b0c9f8
After: 5d83e1a7c4f6
"""

import sqlalchemy as sa
from alembic import op

revision = "1d7e53b0c9f8"
down_revision = "5d83e1a7c4f6"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of those that are there nobody knows; they go on."""
    with op.batch_alter_table("webhooks") as table:
        table.add_column(sa.Column("token", sa.String(length=16), nullable=True))
        table.add_column(sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """What tokens made goes on without them."""
    with op.batch_alter_table("webhooks") as table:
        table.drop_column("ends_at")
        table.drop_column("token")
