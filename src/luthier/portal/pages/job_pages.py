"""A job's page and its live parts."""

from luthier.portal.web.page import Page

PAGES: tuple[Page, ...] = ()
