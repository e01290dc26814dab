"""An SSH agent inside this process: it lists the keys of some files and signs with them, and does nothing else.

No socket listens; the ``SSH`` service hands it requests that come through the session. Every other request, and every
one that cannot be read, is answered with a failure, as the protocol wants it.

Reference: session/sshforward/sshprovider/agentprovider.go, source.agentDialer; draft-ietf-sshm-ssh-agent.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

from buildkit_client.session.ssh_keys import SshReader, load_key, ssh_string

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# draft-ietf-sshm-ssh-agent, 8.1
REQUEST_IDENTITIES = 11
IDENTITIES_ANSWER = 12
SIGN_REQUEST = 13
SIGN_RESPONSE = 14
FAILURE = struct.pack(">IB", 1, 5)

_log = logging.getLogger(__name__)


class KeyAgent:
    """Answers an agent's requests with keys from files.

    Args:
        paths: Files of private keys, read at once; see :func:`~buildkit_client.session.ssh_keys.load_key`.

    Raises:
        SshAgentError: A key cannot be used.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        keys = [load_key(path) for path in paths]
        self._keys = {key.blob: key for key in keys}

    def answer(self, request: bytes) -> bytes:
        """Answer one request.

        Args:
            request: Whole, with its length in front.

        Returns:
            The answer, with its length in front.
        """
        kind, reader = request[4], SshReader(request[5:])
        if kind == REQUEST_IDENTITIES:
            listed = b"".join(ssh_string(blob) + ssh_string(b"") for blob in self._keys)
            return ssh_string(struct.pack(">BI", IDENTITIES_ANSWER, len(self._keys)) + listed)
        if kind == SIGN_REQUEST:
            try:
                key = self._keys.get(reader.string())
                data, flags = reader.string(), reader.number()
                if key is not None:
                    return ssh_string(bytes([SIGN_RESPONSE]) + ssh_string(key.sign(data, flags)))
            except Exception as exc:
                # A request that is cut off, or a hash that this machine's policy forbids: the protocol has one answer.
                _log.debug("the SSH agent cannot sign: %s", type(exc).__name__)
        return FAILURE
