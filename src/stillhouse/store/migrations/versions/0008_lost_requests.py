"""What a sweep has voided may still be resolved by the gateway that worked on it, once."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

_TRIGGER = "request_update_forbidden"
_REASON = "a resolved request never changes"
_IS_FOR_GOOD = (
    "OLD.state = 'SETTLED' OR (OLD.state = 'VOIDED' AND "
    "(OLD.outcome <> 'gateway_lost' OR OLD.completion_tokens IS NOT NULL))"
)


def upgrade() -> None:
    """Let the trigger that keeps resolved requests as they are leave out lost ones."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {_TRIGGER}")
        op.execute(
            f"CREATE TRIGGER {_TRIGGER} BEFORE UPDATE ON request "
            f"WHEN {_IS_FOR_GOOD} BEGIN SELECT RAISE(ABORT, '{_REASON}'); END"
        )
    else:
        op.execute(f"DROP TRIGGER {_TRIGGER} ON request")
        op.execute(
            f"CREATE TRIGGER {_TRIGGER} BEFORE UPDATE ON request FOR EACH ROW "
            f"WHEN ({_IS_FOR_GOOD}) EXECUTE FUNCTION forbid('{_REASON}')"
        )
