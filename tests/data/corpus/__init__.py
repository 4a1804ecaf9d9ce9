"""Faulty files made by us, each with exactly what is to be found in it; and odd ones in which nothing is."""

from tests.data.corpus import of_bytes, of_images, of_json, of_pairs, of_rows, of_tools
from tests.data.corpus.case import Case

_PARTS = (of_bytes, of_json, of_rows, of_tools, of_images, of_pairs)
CASES: tuple[Case, ...] = tuple(case for part in _PARTS for case in part.CASES)
CLEAN: tuple[Case, ...] = tuple(case for part in _PARTS for case in part.CLEAN)
