"""Profiles of registries: how the login that a rack has becomes the one that the registry takes.

A registry's host says whose it is. Most take a user name and a password as they are; some have a token in place of
both, a user name that says what kind of secret follows, or a key pair that buys a password. The cache needs no profile:
the form in which it is exported (:class:`convox.images.RegistryImages`) is one that all of these store.

Reference: Azure Container Registry "Authentication options"; DigitalOcean "Registry authentication"; Google Artifact
Registry "Set up authentication for Docker"; Amazon ECR "Private registry authentication"; Harbor "Robot accounts".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convox.errors import RackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.oci import Credentials, CredentialsProvider

ACR_TOKEN_USER = "00000000-0000-0000-0000-000000000000"
"""The user name that goes with an identity token of Azure's registry, where only user and password fit."""

_ACCESS_KEY = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,124}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of registry.

    Attributes:
        name: Short name, for example ``acr``.
        title: What people call it.
        hosts: What its hosts look like, as a whole.
        needs_username: Whether a password alone is not enough.
        login_hint: How a login for it is set.
    """

    name: str
    title: str
    hosts: re.Pattern[str]
    needs_username: bool = True
    login_hint: str = "set a user name and a password"


PLAIN = Profile(name="plain", title="registry", hosts=re.compile(r".*"))
"""Every registry that no other profile is for; Harbor, whose robot accounts are users like any other, is one."""

PROFILES = (
    Profile(
        name="acr",
        title="Azure Container Registry",
        hosts=re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)?\.azurecr\.(?:io|cn|us)"),
        login_hint="a service principal's id and secret, or an identity token with the user name " + ACR_TOKEN_USER,
    ),
    Profile(
        name="docr",
        title="DigitalOcean Container Registry",
        hosts=re.compile(r"registry\.digitalocean\.com"),
        needs_username=False,
        login_hint="an API token as the password; it is the user name too",
    ),
    Profile(
        name="ecr",
        title="Amazon ECR",
        hosts=re.compile(r"\d{12}\.dkr[.-]ecr(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?"),
        login_hint="an access key's id and secret, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
    ),
    Profile(
        name="gar",
        title="Google Artifact Registry",
        hosts=re.compile(r"[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io"),
        needs_username=False,
        login_hint="a service account's key (JSON) or an access token as the password",
    ),
)
"""The kinds of registries that are known by their hosts."""


def profile_for(host: str) -> Profile:
    """Return the profile of a registry."""
    name = host.lower().rstrip(".")
    return next((profile for profile in PROFILES if profile.hosts.fullmatch(name)), PLAIN)


def login_provider(
    host: str, username: str, password: str, *, source: str, environ: Mapping[str, str]
) -> CredentialsProvider:
    """Return what gives the login for one registry, from what a rack has for it, and for no other registry.

    Args:
        host: The registry, with port where it has one.
        username: May be empty where the registry's profile allows that.
        password: A password, token, key or secret.
        source: Where they come from, for people.
        environ: Where Amazon's endpoint may be named.

    Raises:
        RackError: They are none that this kind of registry takes.
    """
    from buildkit_client.oci import StaticCredentials  # noqa: PLC0415 (not needed by every command)

    profile = profile_for(host)
    if profile.name == "ecr" and username != "AWS":
        if not _ACCESS_KEY.fullmatch(username):
            raise RackError(
                f"the user name for {host} is neither AWS nor the id of an access key", hint=profile.login_hint
            )
        from convox.ecr import AwsKeys, EcrCredentials, ecr_endpoint  # noqa: PLC0415 (not needed by every command)

        keys = AwsKeys(
            access_key_id=username, secret_access_key=password, endpoint=ecr_endpoint(environ), source=source
        )
        return EcrCredentials(keys, host=host.lower().rstrip("."))
    return StaticCredentials({host: login(host, username, password)}, source=source)


def login(host: str, username: str, password: str) -> Credentials:
    """Return the login that a registry takes as it is; of Amazon's, one with a password that was bought already.

    Args:
        host: The registry.
        username: May be empty where the registry's profile allows that.
        password: A password, token or key.
    """
    from buildkit_client.oci import Credentials  # noqa: PLC0415 (not needed by every command)

    match profile_for(host).name:
        case "acr" if username == ACR_TOKEN_USER:
            return Credentials(identity_token=password)
        case "docr":
            return Credentials(username or password, password)
        case "gar":
            return Credentials(username or google_username(password), password)
    return Credentials(username, password)


def google_username(secret: str) -> str:
    """Return the user name that says what kind of secret Google's registry gets."""
    if _is_json_object(secret):
        return "_json_key"
    try:
        decoded = base64.b64decode(secret, validate=True).decode()
    except (binascii.Error, ValueError):
        return "oauth2accesstoken"
    return "_json_key_base64" if _is_json_object(decoded) else "oauth2accesstoken"


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
