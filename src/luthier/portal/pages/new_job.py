"""The new-job assistant."""

from luthier.portal.web.page import Page

PAGES: tuple[Page, ...] = ()
