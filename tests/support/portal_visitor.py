"""A visitor of the portal without script."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from fakes import KEY


class Visitor(httpx2.Client):
    """A browser without script: follows redirects, keeps cookies, sends forms with the CSRF token of its session."""

    csrf = ""

    def send_form(self, path: str, **fields: str) -> httpx2.Response:
        """Posts a form as a page of ours would."""
        return self.post(path, data={"csrf": self.csrf} | fields)


@contextmanager
def sign_in(url: str, key: str = KEY) -> Iterator[Visitor]:
    """A visitor who has signed in with the key."""
    with Visitor(base_url=url, follow_redirects=True, timeout=60) as visitor:
        answer = visitor.post("/portal/sign-in", data={"key": key, "next": "/portal/jobs"})
        found = re.search(r'data-csrf="([0-9a-f]+)"', answer.text)
        assert found, answer.text
        visitor.csrf = found[1]
        yield visitor


def upload(visitor: Visitor, content: bytes, name: str = "rows.jsonl", purpose: str = "fine-tune") -> str:
    """Uploads as the page's script does: by the session's cookie and its CSRF token. Returns the file's id."""
    answer = visitor.post(
        "/v1/files", data={"purpose": purpose}, files={"file": (name, content)}, headers={"x-csrf-token": visitor.csrf}
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])
