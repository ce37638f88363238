"""Retry strategies for Cano's tasks."""

from cano_retry._budget import RetryBudget
from cano_retry._chain import Chain
from cano_retry._exponential import Exponential
from cano_retry._fixed import Fixed
from cano_retry._none import NoRetry
from cano_retry._with_budget import WithBudget

__all__ = ["Chain", "Exponential", "Fixed", "NoRetry", "RetryBudget", "WithBudget"]
