"""An OpenID Connect issuer of the tests' own: discovery, keys, sign-in by code with PKCE, and tokens that it signs."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "api://luthier"
CLIENT = "portal client"
"""With a blank: Basic authentication has to encode it."""
SECRET = "se:cret/of the client"
RSA = rsa.generate_private_key(65537, 2048)
SHORT = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """Counts how often it is asked for keys. Who comes to its sign-in page is signed in at once as `subject`.

    `says` are changes of the answer to the browser, `id_claims` and `access_claims` those of its tokens (None leaves a
    claim out; `access_claims` None: an opaque access token), and `token_error` refuses to exchange codes.
    """

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.issuer = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.named = self.url
        self.keys = [public("rsa", RSA), public("ec", EC), public("short", SHORT)]
        self.is_down = False
        self.asked = 0
        self.now = 0
        self.subject = "subject-1"
        self.secret: str | None = SECRET
        self.auth_methods = ["client_secret_basic", "client_secret_post"]
        self.says: dict[str, str | None] = {}
        self.id_claims: dict[str, Any] = {}
        self.access_claims: dict[str, Any] | None = {}
        self.token_error: str | None = None
        self.codes: dict[str, dict[str, str]] = {}
        self.attempts: list[dict[str, str]] = []

    def about(self) -> dict[str, Any]:
        return {
            "issuer": self.named,
            "jwks_uri": f"{self.url}/keys",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "token_endpoint_auth_methods_supported": self.auth_methods,
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """The address that the browser is sent back to."""
        self.attempts.append(asked)
        code = f"code-{len(self.attempts)}"
        self.codes[code] = asked
        answer: dict[str, str | None] = {"code": code, "state": asked["state"], "iss": self.url, **self.says}
        query = urlencode({name: value for name, value in answer.items() if value is not None})
        return f"{asked['redirect_uri']}?{query}"

    def exchange(self, form: dict[str, str], basic: tuple[str, str] | None) -> tuple[int, dict[str, str]]:
        """Status and body of the answer to a code, which is good once, and only with its verifier and its client."""
        if self.token_error is not None:
            return 400, {"error": self.token_error}
        client = basic or (form.get("client_id", ""), form.get("client_secret", ""))
        if client != (CLIENT, self.secret or ""):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = _base64url(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        claims = {"roles": ["Owner"], "resource": "luthier"}
        access = "opaque"
        if self.access_claims is not None:
            access = self.sign({"aud": AUDIENCE} | claims | self.access_claims)
        half = _base64url(hashlib.sha256(access.encode()).digest()[:16])
        own = {"aud": CLIENT, "nonce": asked["nonce"], "at_hash": half} | claims | self.id_claims
        return 200, {"access_token": access, "id_token": self.sign(own), "token_type": "Bearer"}

    def sign(self, claims: dict[str, Any]) -> str:
        """A token of this issuer, good for ten minutes unless the claims say otherwise."""
        common = {"iss": self.url, "sub": self.subject, "iat": self.now, "exp": self.now + 600}
        kept = {name: value for name, value in (common | claims).items() if value is not None}
        return jwt.encode(kept, RSA, "RS256", headers={"kid": "rsa"})

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    issuer: Issuer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        issuer, parts = self.server.issuer, urlsplit(self.path)
        if parts.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self.send_response(302)
            self.send_header("location", issuer.authorize(asked))
            self.send_header("content-length", "0")
            self.end_headers()
        elif parts.path == "/.well-known/openid-configuration":
            self._send(200, issuer.about())
        else:
            issuer.asked += 1
            self._send(200, {"keys": issuer.keys})

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        kind, _, encoded = self.headers.get("authorization", "").partition(" ")
        basic = None
        if kind.lower() == "basic":
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
            basic = unquote(name), unquote(secret)
        self._send(*self.server.issuer.exchange(form, basic))

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(503 if self.server.issuer.is_down else status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def public(kid: str, key: Any) -> dict[str, Any]:
    """The public half of a key, as an issuer publishes it."""
    algorithm = jwt.algorithms.ECAlgorithm if kid.startswith("ec") else jwt.algorithms.RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
