"""Signed webhooks for late, failed and parked runs: `Kernel(plugins=[Webhooks(url, secret=…)])`."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["WebhookError", "Webhooks", "new_secret", "signature"]

if typing.TYPE_CHECKING:
    from cano_webhooks.sending import WebhookError
    from cano_webhooks.signing import new_secret, signature
    from cano_webhooks.webhooks import Webhooks
else:
    __getattr__, __dir__ = _lazy_names(
        __name__, {"sending": "WebhookError", "signing": "new_secret signature", "webhooks": "Webhooks"}
    )
