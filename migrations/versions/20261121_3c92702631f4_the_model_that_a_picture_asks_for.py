"""the model that a picture asks for, and what administrators choose

Revision: 3c92702631f4
After: e4c069fc28a7
"""

import sqlalchemy as sa
from alembic import op

revision = "3c92702631f4"
down_revision = "e4c069fc28a7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.add_column(sa.Column("wanted_model", sa.String(length=80), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_column("wanted_model")
    op.drop_table("settings")
