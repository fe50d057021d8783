"""until when a webhook whose address fails is left alone

Revision: 5d83e1a7c4f6
After: 6c2f9a71b3d4
"""

import sqlalchemy as sa
from alembic import op

revision = "5d83e1a7c4f6"
down_revision = "6c2f9a71b3d4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("webhooks", "paused_until")
