"""Lets a gateway resolve, once, a request of its own that a sweep has voided."""

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
    """Exempts lost requests from the trigger that refuses changes of resolved requests."""
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
