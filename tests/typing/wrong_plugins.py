"""Things given to a kernel that lack what it asks of them."""

from __future__ import annotations

from cano import Call, Kernel, PluginInfo, StoreView


class HalfAStore:
    """Opens and closes."""

    async def open(self) -> None:
        """Make ready."""

    async def close(self) -> None:
        """Free everything."""


class PlainExecutor:
    """Is not async."""

    def submit(self, call: Call) -> int:
        """Do it."""
        return 1


class NoTimers:
    """Half a clock."""

    def time(self) -> float:
        """Now."""
        return 0.0


Kernel(store=HalfAStore())  # E: arg-type
Kernel(store=3)  # E: arg-type
Kernel(executor=HalfAStore())  # E: arg-type
Kernel(executor=PlainExecutor())  # E: arg-type
Kernel(clock=NoTimers())  # E: arg-type
Kernel("memory://")  # E: call-arg
Kernel(plugins=3)  # E: arg-type
Kernel(block=[3])  # E: list-item
Kernel(retries=3)  # E: call-arg
Kernel().load() == 3  # E: comparison-overlap
PluginInfo("a", "b", "c", "active").name = "d"  # E: misc
StoreView()  # E: call-arg
