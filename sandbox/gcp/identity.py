"""Who is calling: service accounts with real keys, and the tokens handed out to them.

Tokens look like Google's (``ya29.``); they mean something only to the sandbox that issued them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

Json = dict[str, Any]

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
USERINFO_EMAIL = "https://www.googleapis.com/auth/userinfo.email"
DEFAULT_SCOPES = (CLOUD_PLATFORM, USERINFO_EMAIL)


@dataclass(frozen=True)
class Identity:
    """An authenticated caller. ``roles`` are what the project's IAM policy grants it at this moment."""

    email: str
    roles: frozenset[str]
    unique_id: str
    scopes: frozenset[str] = frozenset(DEFAULT_SCOPES)


@dataclass
class Account:
    """A service account (or, with ``human``, a user). ``keys``: key id -> public key."""

    email: str
    unique_id: str
    display_name: str = ""
    human: bool = False
    description: str = ""
    disabled: bool = False
    keys: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)

    @property
    def member(self) -> str:
        return ("user:" if self.human else "serviceAccount:") + self.email


@dataclass(frozen=True)
class Token:
    email: str
    scopes: frozenset[str]
    expires: float  # seconds since the epoch
    issued: float = 0.0  # 0: of old


class BadAssertion(ValueError):
    """A signed JWT that is refused; the text is Google's ``error_description``."""


def numeric_id(email: str) -> str:
    """A stable 21-digit id, as accounts have."""
    return "1" + str(int(hashlib.sha256(email.encode()).hexdigest(), 16))[:20]


class Accounts:
    """Accounts and tokens. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}
        self._tokens: dict[str, Token] = {}
        self.refresh_tokens: dict[str, str] = {}  # refresh token -> e-mail
        self.subject_tokens: dict[str, str] = {}  # token of a foreign identity provider -> e-mail

    def add(self, email: str, *, display_name: str = "", human: bool = False, description: str = "") -> Account:
        account = Account(email, numeric_id(email), display_name, human, description)
        with self._lock:
            return self._accounts.setdefault(email, account)

    def remove(self, email: str) -> bool:
        with self._lock:
            self._tokens = {text: token for text, token in self._tokens.items() if token.email != email}
            return self._accounts.pop(email, None) is not None

    def get(self, name: str) -> Account | None:
        """By e-mail or unique id."""
        with self._lock:
            found = self._accounts.get(name)
            return found or next((item for item in self._accounts.values() if item.unique_id == name), None)

    def all(self) -> list[Account]:
        with self._lock:
            return sorted(self._accounts.values(), key=lambda account: account.email)

    def new_key(self, email: str) -> tuple[str, bytes]:
        """A fresh RSA key pair of an account: key id and private key (PEM). The public half stays here."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        identifier = secrets.token_hex(20)
        with self._lock:
            self._accounts[email].keys[identifier] = key.public_key()
        return identifier, key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def issue(self, email: str, scopes: tuple[str, ...] = DEFAULT_SCOPES, lifetime: float = 3599) -> str:
        """A new access token, valid for ``lifetime`` seconds."""
        text = "ya29.c.sandbox-" + secrets.token_urlsafe(32)
        with self._lock:
            now = self._clock()
            self._tokens = {key: token for key, token in self._tokens.items() if token.expires > now - 86400}
            self._tokens[text] = Token(email, frozenset(scopes), now + lifetime, now)
        return text

    def adopt(self, text: str, email: str, *, expires: float) -> None:
        """Make a token of somebody else's choice valid, for tests."""
        with self._lock:
            self._tokens[text] = Token(email, frozenset(DEFAULT_SCOPES), expires)

    def expire_all(self) -> None:
        """Every token issued so far is over; new ones are as good as ever."""
        with self._lock:
            now = self._clock()
            self._tokens = {key: replace(token, expires=min(token.expires, now)) for key, token in self._tokens.items()}

    def token(self, text: str) -> Token | None:
        """What a bearer token stands for, expired or not. A self-signed JWT counts too."""
        with self._lock:
            found = self._tokens.get(text)
        if found is not None or text.count(".") != 2:
            return found
        try:
            claims = self.verify(text)
        except BadAssertion:
            return None
        scopes = frozenset(str(claims["scope"]).split()) if claims.get("scope") else frozenset(DEFAULT_SCOPES)
        return Token(str(claims["iss"]), scopes, float(claims["exp"]), float(claims.get("iat", 0)))

    def expired(self, token: Token) -> bool:
        return token.expires <= self._clock()

    def verify(self, assertion: str) -> Json:
        """Claims of a JWT signed with a service account's key. BadAssertion says why not, in Google's words."""
        try:
            head, body, signature = assertion.split(".")
            header, claims = _decode(head), _decode(body)
            raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        except ValueError as error:
            raise BadAssertion("Bad Request") from error
        account = self.get(str(claims.get("iss", "")))
        if account is None:
            raise BadAssertion("Invalid grant: account not found")
        known = account.keys.get(str(header.get("kid", "")))
        candidates = [known] if known is not None else list(account.keys.values())
        if header.get("alg") != "RS256" or not any(_signed(key, f"{head}.{body}", raw) for key in candidates):
            raise BadAssertion("Invalid JWT Signature.")
        self._check_times(claims)
        return claims

    def _check_times(self, claims: Json) -> None:
        now = self._clock()
        try:
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except (KeyError, TypeError, ValueError):
            issued, expires = 0.0, 0.0
        if not (issued - 300 <= now < expires + 30 and expires - issued <= 3600 + 60):
            raise BadAssertion(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )


def _decode(part: str) -> Json:
    value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _signed(key: rsa.RSAPublicKey, text: str, signature: bytes) -> bool:
    try:
        key.verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
