"""The ids of a run's notices, as its record keeps them."""

from __future__ import annotations

from cano import RunRecord

from cano_durability.keys import NOTICES
from cano_durability.values import Values


def read_notices(values: Values, record: RunRecord) -> list[str]:
    """Return the ids of a run's last notices. Raises SerializationError."""
    return list(values.own(NOTICES, record.own, record.run_id) or ())
