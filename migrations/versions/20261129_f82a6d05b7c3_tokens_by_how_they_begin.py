"""tokens are found by how they begin: for refused ones, which may be damaged

Revision: f82a6d05b7c3
After: e71b4c92d0a8
"""

from alembic import op

revision = "f82a6d05b7c3"
down_revision = "e71b4c92d0a8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tokens_prefix", "tokens", ["prefix"])


def downgrade() -> None:
    op.drop_index("ix_tokens_prefix", "tokens")
