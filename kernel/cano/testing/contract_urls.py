"""The store contract: wrong URLs."""

from __future__ import annotations

from cano.errors import CanoError, ConfigurationError
from cano.testing.contract_base import Contract, clause_of_url, raised

SECRET = "hunter2"


class UrlClauses(Contract):
    """Errors about a URL do not contain it. A store with an `open_backend` of its own has no URL to check."""

    @property
    def _has_url(self) -> bool:
        return type(self).open_backend is Contract.open_backend

    @clause_of_url
    async def test_an_unknown_option_is_refused(self, url: str) -> None:
        """A URL with an unknown option is refused; the error names the option."""
        if not self._has_url:
            return
        error = await raised(ConfigurationError, self._shown(_with(url, "no_such_option=1")))
        assert "no_such_option" in str(error)

    @clause_of_url
    async def test_a_password_is_never_shown(self, url: str) -> None:
        """No error about a URL, and no repr of its store, contains the password in the URL."""
        if not self._has_url:
            return
        scheme, separator, rest = url.partition("://")
        for place in (f"ada:{SECRET}@{rest}", f"ada:{SECRET}@host/{rest}", f"ada:{SECRET}@host:port/{rest}"):
            wrong = scheme + separator + place
            for each in (wrong, _with(wrong, "no_such_option=1"), _with(wrong, "strict=maybe&strict=maybe")):
                try:
                    shown = await self._shown(each)
                except CanoError as error:
                    shown = "\n".join([str(error), *getattr(error, "__notes__", ())])
                assert SECRET not in shown

    async def _shown(self, url: str) -> str:
        """Open the store at `url`, and return its repr."""
        store = self.open_backend(url)
        try:
            await store.open()
            return repr(store)
        finally:
            await store.close()


def _with(url: str, options: str) -> str:
    return url + ("&" if "?" in url else "?") + options
