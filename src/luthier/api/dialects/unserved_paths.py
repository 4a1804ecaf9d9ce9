"""The message for a path or method that is not served: what to use instead, or which path was probably meant.

Only texts: `server._on_http` makes the 404 or 405 of them.
"""

import difflib
import re
from collections.abc import Iterable, Iterator

from starlette.routing import BaseRoute, Match, Route

from luthier.api.dialects import dialects
from luthier.api.dialects.dialects import Dialect

MAX_PATH_CHARACTERS = 200
"""How much of the requested path a message repeats."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
_PROJECT = re.compile(r"/api/projects/[^/]+(?=/)")
_DEPLOYMENT = re.compile(r"/(?:deployments|engines)/[^/]+(?=/)")
_PREFIXES = re.compile(r"(/(v1|openai))+(?=/)", re.IGNORECASE)
_DOUBLED_PREFIX = re.compile(r"(/(v1|openai))+/openai/", re.IGNORECASE)
_ANOTHER_SERVICE = "Luthier fine-tunes and serves language models and does not do this; use a service that does."

_ALTERNATIVES: tuple[tuple[str, str], ...] = (
    (
        r"conversations(/.*)?",
        "Conversations are not kept as objects here; continue a response by its previous_response_id.",
    ),
    (r"fine-tunes(/.*)?", "fine-tunes is OpenAI's older API; create jobs by POST {prefix}/fine_tuning/jobs."),
    (
        r"fine_tuning/alpha(/.*)?|graders(/.*)?",
        "Graders belong to reinforcement fine-tuning, which is not supported; method.type is 'supervised' or 'dpo'.",
    ),
    (
        r"batches(/.*)?",
        "No deployment stands in the path of a batch. Create it by POST {prefix}/batches: each of its lines names a "
        "deployment as body.model.",
    ),
    (
        r"evals(/.*)?",
        "Evals are not served here. A job's own evaluation is its validation_file: GET "
        "{prefix}/fine_tuning/jobs/JOB/checkpoints has the losses. Call the model itself by POST {chat}.",
    ),
    (
        r"(assistants|threads|vector_stores|containers|chatkit|skills|agents)(/.*)?",
        "Assistants, threads, vector stores and tools that run on a server are not served here; use POST {chat}, with "
        "tools of your own.",
    ),
    (r"(images|audio|videos|realtime)(/.*)?", f"Images, sound and video are not served here. {_ANOTHER_SERVICE}"),
    (r"moderations|content_filter(/.*)?", "No moderation and no content filter runs here. Use another service for it."),
    (r"edits|answers|search|classifications", "This older API of OpenAI's is not served here; use POST {chat}."),
    (
        r"extensions/chat/completions",
        "Chat on your own data is not served here: models read no data sources. Use POST {chat}.",
    ),
    (r"chat/completions/.+", "Completions are not stored here, so none can be read, changed or deleted."),
    (r"(organization|organizations|projects|usage|dashboard|billing)(/.*)?", "{admin}"),
    (r"messages(/.*)?", "Anthropic's Messages API is not served here; use POST {chat}."),
    (
        r"rerank|rerankings|score|pooling|tokenize|detokenize|completion|infill",
        f"This is not served here. {_ANOTHER_SERVICE}",
    ),
    (r"ingestion(/.*)?|batch/jobs(/.*)?|info", "This is not served here; GET {prefix}/models lists the models."),
)
"""A pattern of paths without their dialect's prefix and deployment, and the message for them."""
_ADMIN_COMMANDS = (
    "Projects, keys and usage are not managed by this API: the operator has `luthier resources`, `luthier keys`, and "
    "GET .../accounts/NAME/usages."
)
_OTHER_APIS: tuple[tuple[str, str], ...] = (
    (
        r"/api/(chat|generate|tags|show|pull|embed|embeddings|ps|version)",
        "Ollama's API is not served here; point an OpenAI client at the base URL .../v1.",
    ),
    (r"/v1beta/.*", "Gemini's API is not served here; point an OpenAI client at the base URL .../v1."),
    (
        r"/api/projects/.*|/agents/.*|/models/.*",
        "Foundry's project endpoint has no such path here; use the base URL .../openai/v1, or .../openai with an "
        "api-version.",
    ),
    (
        r"/(subscriptions|providers)(/.*)?",
        "The control plane has accounts, their deployments, skus, keys and usages (docs/dialects.md).",
    ),
    (r"/(portal|ui|login|admin)?", "The only page here is /docs; the base URL of the API is .../v1."),
)
"""Complete paths of other APIs."""
_METHOD_HINTS = (
    ("GET", r"(chat/)?completions", "Completions are not stored here, so there is no list of them."),
    ("POST", r"models(/.*)?", "Create a model by POST {prefix}/fine_tuning/jobs."),
    ("POST", r"files/[^/]+", "A file cannot be changed: upload another by POST {prefix}/files."),
    ("POST", r"responses/compact", "Conversations are not compacted here; leave older items out of input yourself."),
    ("GET", r"responses", "Responses are not listed, as by the vendors; get one by its id."),
    ("PATCH", r"fine_tuning/jobs/[^/]+", "A job cannot be changed; cancel it and create another."),
)


def not_found_message(method: str, path: str, routes: Iterable[BaseRoute]) -> str:
    """The message for a path that none of `routes` has: the path, cut if it is long, and what to use instead."""
    shown = path if len(path) <= MAX_PATH_CHARACTERS else f"{path[:MAX_PATH_CHARACTERS]}..."
    shown = shown.encode("utf-8", "backslashreplace").decode()
    not_found = f"Resource not found: there is no route {method} {shown}."
    routes_served = [route for route in routes if isinstance(route, Route)]
    if closest := _closest_path(method, path, routes_served):
        doubled = (
            " The SDK adds /openai itself: its azure_endpoint is only the address."
            if _DOUBLED_PREFIX.match(path)
            else ""
        )
        return f"{not_found} Did you mean {closest}?{doubled}"
    hint = (
        _alternative(path)
        or "The base URL is .../v1, .../openai/v1, or .../openai with an api-version; GET /docs lists "
    )
    return f"{not_found} {hint if hint.endswith('.') else hint + 'all routes.'}"


def hint_for_method(method: str, path: str) -> str | None:
    """What to do instead of a method that the path does not support; None if there is nothing to say."""
    dialect, rest = _split(path)
    for hint_method, pattern, text in _METHOD_HINTS:
        if hint_method == method and re.fullmatch(pattern, rest):
            return text.format(prefix=dialect.prefix)
    return None


def _alternative(path: str) -> str | None:
    """What to use instead of a path of a vendor's, or another, API that is not served; None for an unknown path."""
    dialect, rest = _split(path)
    for pattern, text in _ALTERNATIVES:
        if re.fullmatch(pattern, rest):
            return text.format(prefix=dialect.prefix, chat=_chat_path(dialect), admin=_ADMIN_COMMANDS)
    return next((text for pattern, text in _OTHER_APIS if re.fullmatch(pattern, path)), None)


def _chat_path(dialect: Dialect) -> str:
    """Where the dialect has chat completions."""
    return f"{dialect.prefix}{'/deployments/NAME' if dialect.deployment_in_path else ''}/chat/completions"


def _split(path: str) -> tuple[Dialect, str]:
    """The path's dialect, and the path without its prefix and without a deployment's name."""
    path = _PROJECT.sub("", path, count=1)
    dialect = dialects.of_path(path)
    rest = path.removeprefix(dialect.prefix)
    return dialect, _DEPLOYMENT.sub("", rest, count=1).strip("/")


def _closest_path(method: str, path: str, routes: list[Route]) -> str | None:
    """The served path that is most similar to the requested one: a common mistake undone, else a route's template.

    None if none is similar, or if the corrected path is too long to repeat.
    """
    for candidate in dict.fromkeys(_candidates(path)):
        if candidate != path and _is_served(method, candidate, routes):
            return candidate if len(candidate) <= MAX_PATH_CHARACTERS else None
    dialect, _ = _split(path)
    words = path.strip("/").split("/")
    closest, highest = None, 0.0
    for template in dict.fromkeys(route.path for route in routes if route.path.startswith(dialect.prefix + "/")):
        similarity = _similarity(words, template.strip("/").split("/"))
        if similarity > highest:
            closest, highest = template, similarity
    return closest


def _candidates(path: str) -> Iterator[str]:
    """The path with one common mistake undone: slashes, a prefix twice, missing, or of another dialect."""
    plain = "/" + "/".join(part for part in path.split("/") if part)
    yield plain
    plain = _PROJECT.sub("", plain, count=1)
    rest = _PREFIXES.sub("", plain)
    dialect_of_path = dialects.of_path(plain.lower())
    deployment = _DEPLOYMENT.match(rest)
    if deployment is not None and rest != plain and not dialect_of_path.deployment_in_path:
        yield dialect_of_path.prefix + rest[deployment.end() :]
    if dialect_of_path.deployment_in_path and rest in ("/chat/completions", "/completions", "/embeddings"):
        yield f"{dialect_of_path.prefix}/deployments/NAME{rest}"
    if rest.startswith("/fine_tuning/ft") or rest == "/fine_tuning":
        yield f"{dialect_of_path.prefix}/fine_tuning/jobs{rest.partition('/fine_tuning')[2]}"
    for dialect in (dialect_of_path, *dialects.DIALECTS):
        yield dialect.prefix + rest
        yield dialect.prefix + rest.lower()


def _is_served(method: str, path: str, routes: list[Route]) -> bool:
    """Whether a route has this path, by any method: a 405 names the right one. A model's name may be any path."""
    scope = {"type": "http", "path": path, "root_path": "", "headers": [], "method": method}
    matches = [(route, route.matches(scope)[0]) for route in routes]
    return any(
        match is Match.FULL or (match is Match.PARTIAL and not route.path.endswith(":path}"))
        for route, match in matches
    )


def _similarity(words: list[str], template: list[str]) -> float:
    """Similarity from 0 to 1 of a path's segments to a route's; 0 if one is too unlike. Parameters match any text."""
    if len(words) != len(template):
        return 0.0
    total = 1.0
    for word, expected in zip(words, template, strict=True):
        if not expected.startswith("{"):
            ratio = difflib.SequenceMatcher(None, word[:64], expected).ratio()
            total *= ratio if ratio >= 0.8 else 0.0
        elif "}" in expected and not word:
            return 0.0
    return total
