"""Faulty files made by us, each with exactly what is to be found in it; and odd ones in which nothing is."""

from corpus import encoding_cases, image_cases, json_cases, key_cases, preference_cases, row_cases, tool_cases
from corpus.case import Case

_PARTS = (encoding_cases, json_cases, row_cases, tool_cases, image_cases, preference_cases, key_cases)
CASES: tuple[Case, ...] = tuple(case for part in _PARTS for case in part.CASES)
CLEAN: tuple[Case, ...] = tuple(case for part in _PARTS for case in part.CLEAN)
