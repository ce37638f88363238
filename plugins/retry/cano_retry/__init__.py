"""Retry strategies for Cano's tasks."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["Chain", "Exponential", "Fixed", "NoRetry", "RetryBudget", "WithBudget"]

if typing.TYPE_CHECKING:
    from cano_retry._budget import RetryBudget
    from cano_retry._chain import Chain
    from cano_retry._exponential import Exponential
    from cano_retry._fixed import Fixed
    from cano_retry._none import NoRetry
    from cano_retry._with_budget import WithBudget
else:
    __getattr__, __dir__ = _lazy_names(
        __name__,
        {
            "_budget": "RetryBudget",
            "_chain": "Chain",
            "_exponential": "Exponential",
            "_fixed": "Fixed",
            "_none": "NoRetry",
            "_with_budget": "WithBudget",
        },
    )
