"""Texts that are no JSON lines, recognised by how they begin: pages, pointers, YAML, dialogues, modules, fences.

A part of `file_type`, which asks it about what is neither binary nor JSON.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

_YAML_TO_JSON = (
    'python3 -c "import json, sys, yaml; '
    "[print(json.dumps(row)) for part in yaml.safe_load_all(sys.stdin) "
    'for row in (part if isinstance(part, list) else [part])]" < OLD > NEW'
)
ASSIGNMENT = re.compile(
    r"(?:'use strict';?\s*)?(?:export\s+default\s+|(?:module\.)?exports\s*=\s*|"
    r"(?:export\s+)?(?:const|let|var)\s+[\w$]+\s*=\s*|(?:window|globalThis|self)\.[\w$.]+\s*=\s*|[A-Za-z_]\w*\s*=\s*)"
    r"(?=[\[{])"
)
"""What precedes the value in a module of JavaScript, or of Python."""
FENCE = re.compile(r"(?:```|~~~)[\w .{}=-]*\r?\n")
_YAML = re.compile(r"(?:%YAML|---[ \t]*\r?\n|(?:- )?[A-Za-z_][\w-]*:(?:[ \t]+\S|[ \t]*\r?\n[ \t-]))")
_LABEL = re.compile(r"^([A-Za-z_][\w-]*):", re.MULTILINE)
_DOCUMENT_START = re.compile(r"^(?:---|- |%YAML)", re.MULTILINE)
_DIALOGUE_TO_JSON = (
    'python3 -c "import json, re, sys; '
    "[print(json.dumps({'messages': [{'role': 'user', 'content': q}, {'role': 'assistant', 'content': a}]})) "
    r"for q, a in re.findall(r'(?ms)^FIRST:\s*(.*?)\s*^SECOND:\s*(.*?)\s*(?=^FIRST:|\Z)', sys.stdin.read())]"
    '" < OLD > NEW'
)
_YAML_NAME, _DIALOGUE, _PROGRAM = "YAML", "a text of speakers and what they say", "a program"
_CODE = re.compile(r"#!/|import [\w.]+\s|from [\w.]+ import |(?:async )?def \w+\(|function \w+\(|class \w+[:({ ]")
_SED = "sed '1s/^[^[{]*//; $s/;[[:space:]]*$//' OLD | jq -c '.[]' > NEW"


@dataclass(frozen=True, slots=True)
class FileType:
    """What a file looks like, as in "It looks like ...", and what to do. `fixable`: `luthier check --fix` does it."""

    name: str
    fix: str
    fixable: bool = False


def is_certain(text: str) -> bool:
    """Whether a text that begins so is of a type that no later line can disprove."""
    kind = detect(text)
    return kind is not None and kind.name not in (_YAML_NAME, _DIALOGUE, _PROGRAM)


def detect(text: str) -> FileType | None:
    """The type of a text that begins so, blanks before it left out; None if it is not known."""
    lowered = text[:200].lower()
    if lowered.startswith("version https://git-lfs.github.com/spec"):
        return FileType("a Git LFS pointer, not the file itself", "Fetch the file: git lfs pull.")
    if re.match(r"(?:\.\./)*\.?(?:git/annex|annex)/objects/|/annex/objects/", lowered):
        return FileType("a git-annex pointer, not the file itself", "Fetch the file: git annex get OLD.")
    if re.match(r"outs:\s*\n\s*- (?:md5|hash):", lowered):
        return FileType("a DVC pointer, not the file itself", "Fetch the file: dvc pull OLD.")
    if re.match(r"(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body|script|meta)\b", lowered, re.DOTALL):
        fix = "A sign-in or an error page was saved in the place of the file: download it again."
        return FileType("an HTML page", fix)
    if lowered.startswith("<?xml") or re.match(r"<[a-z][\w:-]*[\s>/]", lowered):
        if "<error>" in lowered:
            return FileType("an error message in XML, as storage services send", "Download the file again.")
        return FileType("an XML file", 'Export its rows as JSONL: on each line one object {"messages": [...]}.')
    if FENCE.match(text):
        fix = "Remove the fence: luthier check OLD --fix NEW, or sed -E '/^[[:space:]]*(```|~~~)/d' OLD > NEW."
        return FileType("rows within a Markdown fence", fix, fixable=True)
    if ASSIGNMENT.match(text):
        fix = f"luthier check OLD --fix NEW takes the rows out, where they are JSON; so does: {_SED}."
        return FileType("a module of JavaScript or Python", fix, fixable=True)
    if _CODE.match(text):
        return FileType(_PROGRAM, "Run it, and give the JSONL file that it writes.")
    if re.match(r"\|.*\|[ \t]*\r?\n\|[ :|-]+\|", text):
        return FileType("a Markdown table", 'Write each of its rows as {"messages": [...]} on a line of its own.')
    if _YAML.match(text):
        return _dialogue(text) or FileType(_YAML_NAME, f"Write it as JSON lines: {_YAML_TO_JSON}.")
    return None


def _dialogue(text: str) -> FileType | None:
    """The type of lines such as "Q: ..." and "A: ...", whose labels return; None for what may be YAML.

    A mapping of YAML has each key once (YAML 1.2, section 3.2.1.3).
    """
    labels = [] if _DOCUMENT_START.search(text) else _LABEL.findall(text)
    if not labels or labels.count(labels[0]) < 2:
        return None
    if len(set(labels)) == 2 and all(one != other for one, other in pairwise(labels)):
        command = _DIALOGUE_TO_JSON.replace("FIRST", labels[0]).replace("SECOND", labels[1])
        return FileType(_DIALOGUE, f"Write it as JSON lines: {command}.")
    return FileType(_DIALOGUE, 'Write each exchange as {"messages": [...]} on a line of its own.')
