"""how the engine of each worker is: memory, models, what waits, trouble

Revision: e71b4c92d0a8
After: 1d7e53b0c9f8
"""

import sqlalchemy as sa
from alembic import op

revision = "e71b4c92d0a8"
down_revision = "1d7e53b0c9f8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("engine", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "engine")
