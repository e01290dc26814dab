"""Logins for Amazon's registries (ECR): a key pair buys a password that lives twelve hours.

The registry takes the user ``AWS`` and that password. It comes from one request to the registry's own region, signed
with the secret key, which itself is never sent. A password is kept until it has a quarter of an hour left, then the
next lookup asks again, so that a long build does not end with a stale one.

Reference: Amazon ECR API, GetAuthorizationToken; AWS General Reference, "Signature Version 4 signing process".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from buildkit_client import CredentialsError
from buildkit_client.oci import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ECR_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d{1,2})\."
    r"(?P<domain>amazonaws\.com(?:\.cn)?)"
)
"""Hosts of registries; nothing may stand before or after."""

RENEW_BEFORE_S = 900.0
"""How long before its end a password is asked for anew."""

_TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_CONTENT_TYPE = "application/x-amz-json-1.1"
_FAILURE_KEPT_S = 10.0
_TIMEOUT_S = 20.0
_MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """Who signs.

    Attributes:
        access_key_id: For example ``AKIAIOSFODNN7EXAMPLE``.
        secret_access_key: The secret that goes with it.
        session_token: Of temporary keys; empty for lasting ones.
        endpoint: URL that requests go to instead of Amazon's; empty for Amazon's.
        source: Where they were found, in words.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    endpoint: str = ""
    source: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> AwsKeys | None:
        """Return the keys in the variables that Amazon's own tools read, None where they are not set."""
        key, secret = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_SECRET_ACCESS_KEY", "")
        if not key or not secret:
            return None
        return cls(
            access_key_id=key,
            secret_access_key=secret,
            session_token=environ.get("AWS_SESSION_TOKEN", ""),
            endpoint=ecr_endpoint(environ),
            source="AWS_ACCESS_KEY_ID",
        )


def ecr_endpoint(environ: Mapping[str, str]) -> str:
    """Return the URL that the environment names instead of Amazon's, or an empty text."""
    return environ.get("AWS_ENDPOINT_URL_ECR") or environ.get("AWS_ENDPOINT_URL") or ""


class EcrCredentials:
    """Logins for Amazon's registries; may be asked from several threads, and asks once per account and region.

    Args:
        keys: Who signs.
        host: The one registry they are for; empty for all of Amazon's.
        clock: Seconds since 1970; for tests.
    """

    def __init__(self, keys: AwsKeys, *, host: str = "", clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._host = host
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Credentials | CredentialsError]] = {}

    def lookup(self, host: str) -> Credentials | None:
        """Return the login for a registry; None for one that is not Amazon's, or not the one they are for.

        Raises:
            CredentialsError: Amazon refuses the keys, or cannot be reached.
        """
        match = ECR_HOST.fullmatch(host.lower().rstrip("."))
        if match is None or self._host not in ("", match[0]):
            return None
        with self._lock:
            until, answer = self._kept.get(match[0], (0.0, None))
            if answer is None or self._clock() >= until:
                try:
                    until, answer = self._ask(match)
                except CredentialsError as exc:
                    until, answer = self._clock() + _FAILURE_KEPT_S, exc
                self._kept[match[0]] = until, answer
        if isinstance(answer, CredentialsError):
            raise CredentialsError(str(answer), host=answer.host, why=answer.why, hint=answer.hint)
        return answer

    def _ask(self, match: re.Match[str]) -> tuple[float, Credentials]:
        region = match["region"]
        service = "api.ecr" if not match["fips"] else "ecr-fips"
        url = self._keys.endpoint or f"https://{service}.{region}.{match['domain']}"
        body = json.dumps({"registryIds": [match["account"]]}).encode()
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": _TARGET}
        moment = datetime.fromtimestamp(self._clock(), UTC)
        try:
            signed = sign("POST", url, headers, body, keys=self._keys, region=region, service="ecr", moment=moment)
            request = urllib.request.Request(url, data=body, headers=signed, method="POST")
            with _opener().open(request, timeout=_TIMEOUT_S) as answer:
                data = answer.read(_MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as exc:
            raise self._failure(match[0], _refusal(exc), "check the access key and what it may do") from None
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "reason", exc)
            why = f"{urllib.parse.urlsplit(url).netloc}: {getattr(reason, 'strerror', None) or type(reason).__name__}"
            raise self._failure(match[0], why, "") from None
        try:
            entry = json.loads(data)["authorizationData"][0]
            user, colon, password = base64.b64decode(entry["authorizationToken"], validate=True).decode().partition(":")
            expires_at = float(entry["expiresAt"])
        except (ValueError, LookupError, TypeError, RecursionError, binascii.Error):
            colon = ""
        if not colon:
            raise self._failure(match[0], "the answer has no password", "")
        # A password that is short-lived from the start is used for half of its life.
        left = expires_at - self._clock()
        until = expires_at - min(RENEW_BEFORE_S, left / 2)
        return until, Credentials(user, password, source=f"{self._keys.source} (ECR token)")

    def _failure(self, host: str, why: str, hint: str) -> CredentialsError:
        return CredentialsError(f"no password for {host} from Amazon ECR", host=host, why=why, hint=hint)


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    keys: AwsKeys,
    region: str,
    service: str,
    moment: datetime,
) -> dict[str, str]:
    """Return the headers of a request with a signature of all of them and of the body (SigV4).

    Args:
        method: HTTP method.
        url: Full URL, without a query.
        headers: Header fields; ``Host`` and ``X-Amz-Date`` are added.
        body: The body.
        keys: Who signs.
        region: For example ``eu-west-1``.
        service: Amazon's name of the service, for example ``ecr``.
        moment: When it is sent, in UTC; Amazon takes it for fifteen minutes.

    Reference: AWS General Reference, "Create a signed AWS API request".
    """
    parts = urllib.parse.urlsplit(url)
    date = moment.strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "Host": parts.netloc, "X-Amz-Date": date}
    if keys.session_token:
        sent["X-Amz-Security-Token"] = keys.session_token
    lowered = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
    names = ";".join(sorted(lowered))
    canonical = "\n".join(
        (
            method,
            urllib.parse.quote(parts.path or "/", safe="/~"),
            "",
            *(f"{name}:{lowered[name]}" for name in sorted(lowered)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys.secret_access_key}".encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    sent["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return sent


def _opener() -> urllib.request.OpenerDirector:
    """Return what makes requests: through the proxy of the environment, and without following redirects.

    A signature is for one host, so a redirect is an error.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _refusal(exc: urllib.error.HTTPError) -> str:
    """Return what an error answer says, in one printable line."""
    try:
        document = json.loads(exc.read(_MAX_ANSWER_BYTES))
        kind = str(document.get("__type", "")).rpartition("#")[2]
        message = str(document.get("message") or document.get("Message") or "")
    except (OSError, ValueError, AttributeError, RecursionError):
        kind = message = ""
    finally:
        exc.close()
    text = ": ".join(part for part in (f"HTTP {exc.code}", kind, message) if part)
    return "".join(char if char.isprintable() else " " for char in text)[:300]
