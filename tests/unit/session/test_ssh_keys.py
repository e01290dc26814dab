"""Keys from files and the agent in this process, judged by OpenSSH's own programs and by another library."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_client._proto import ssh_pb2
from buildkit_client.errors import OptionError, SshAgentError
from buildkit_client.options.secrets import SshAgent, SshKeys
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session import ed25519 as plain_ed25519
from buildkit_client.session.session import Session
from buildkit_client.session.ssh import FORWARD_AGENT, SshService, ssh_source
from buildkit_client.session.ssh_agent import FAILURE, IDENTITIES_ANSWER, SIGN_RESPONSE, KeyAgent
from buildkit_client.session.ssh_keys import MAX_KEY_FILE_BYTES, SshReader, load_key, ssh_string
from tests.support.session_peer import FakeDaemon

PEM, PKCS8, OPENSSH = (
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.PrivateFormat.PKCS8,
    serialization.PrivateFormat.OpenSSH,
)
MAKERS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
}
FORMATS = [
    (kind, form) for kind in MAKERS for form in (PEM, PKCS8, OPENSSH) if (kind, form) != ("ed25519", PEM)
]  # fmt: skip
DATA = b"what a server wants signed"
LIST = struct.pack(">IB", 1, 11)


def write_key(path: Path, key, form=OPENSSH, password: bytes = b"") -> Path:
    cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, cipher))
    path.chmod(0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_name(path.name + ".pub").write_bytes(public + b" test\n")
    return path


def public_blob(key) -> bytes:
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(public.split()[1])


def verify(key, signature: bytes, data: bytes) -> str:
    """Check a signature as RFC 4253, 5656 and 8332 define it; return its algorithm."""
    reader = SshReader(signature)
    algorithm, value = reader.string().decode(), reader.string()
    public = key.public_key()
    if algorithm == "ssh-ed25519":
        public.verify(value, data)
    elif algorithm.startswith("ecdsa-sha2-nistp"):
        chosen = {"256": hashes.SHA256(), "384": hashes.SHA384(), "521": hashes.SHA512()}[algorithm[-3:]]
        numbers = SshReader(value)
        r, s = (int.from_bytes(numbers.string(), "big", signed=True) for _ in "rs")
        public.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(chosen))
    else:
        chosen = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512(), "ssh-rsa": hashes.SHA1()}[algorithm]
        public.verify(value, data, padding.PKCS1v15(), chosen)
    return algorithm


@pytest.mark.parametrize(("kind", "form"), FORMATS)
def test_keys_of_every_kind_and_format_sign(tmp_path, kind, form):
    key = MAKERS[kind]()
    loaded = load_key(write_key(tmp_path / "key", key, form))
    assert loaded.blob == public_blob(key)
    verify(key, loaded.sign(DATA), DATA)
    with pytest.raises(InvalidSignature):
        verify(key, loaded.sign(DATA), DATA + b"!")


@pytest.mark.parametrize(
    ("flags", "algorithm"), [(0, "ssh-rsa"), (2, "rsa-sha2-256"), (4, "rsa-sha2-512"), (6, "rsa-sha2-512")]
)
def test_the_flags_choose_the_hash_of_rsa(tmp_path, flags, algorithm):
    key = MAKERS["rsa"]()
    assert verify(key, load_key(write_key(tmp_path / "key", key)).sign(DATA, flags), DATA) == algorithm


def test_many_ecdsa_signatures_are_well_formed(tmp_path):
    """Numbers whose highest bit is set need a byte in front, short ones need none: half of them each."""
    key = MAKERS["p256"]()
    loaded = load_key(write_key(tmp_path / "key", key))
    for number in range(40):
        data = b"%d" % number
        verify(key, loaded.sign(data), data)


@pytest.mark.parametrize("form", [PKCS8, OPENSSH])
def test_ed25519_needs_no_other_package(tmp_path, monkeypatch, form):
    key = MAKERS["ed25519"]()
    path = write_key(tmp_path / "key", key, form)
    without_cryptography(monkeypatch)
    loaded = load_key(path)
    assert loaded.sign(DATA) == ssh_string(b"ssh-ed25519") + ssh_string(key.sign(DATA))


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_other_keys_name_the_package_they_need(tmp_path, monkeypatch, kind):
    path = write_key(tmp_path / "key", MAKERS[kind]())
    without_cryptography(monkeypatch)
    with pytest.raises(SshAgentError) as caught:
        load_key(path)
    assert "cryptography" in caught.value.why
    assert "buildkit-client[ssh]" in caught.value.hint


def without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)


def test_the_number_of_additions_tells_nothing_about_a_key(monkeypatch):
    counts = []
    real = plain_ed25519._add

    def add(p, q):
        counts[-1] += 1
        return real(p, q)

    plain_ed25519._base_powers()
    monkeypatch.setattr(plain_ed25519, "_add", add)
    for seed in (bytes(32), bytes(range(32)), b"\xff" * 32):
        counts.append(0)
        plain_ed25519.sign(seed, DATA)
    assert len(set(counts)) == 1


# -- files that cannot be used


@pytest.mark.parametrize(("kind", "form"), [("ed25519", PKCS8), ("rsa", PEM), ("p256", PEM), ("p256", PKCS8)])
def test_a_passphrase_is_not_asked_for(tmp_path, kind, form):
    path = write_key(tmp_path / "key", MAKERS[kind](), form, password=b"canary-passphrase")
    error = failure(path)
    assert error.why == "it has a passphrase"
    assert "ssh-agent" in error.hint


def test_a_passphrase_in_opensshs_format_is_recognised_by_its_header(tmp_path):
    header = [b"aes256-ctr", b"bcrypt", bytes(24)]
    binary = b"openssh-key-v1\0" + b"".join(map(ssh_string, header)) + (1).to_bytes(4, "big")
    binary += ssh_string(public_blob(MAKERS["rsa"]())) + ssh_string(os.urandom(64))
    text = base64.encodebytes(binary)
    path = tmp_path / "key"
    path.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text + b"-----END OPENSSH PRIVATE KEY-----\n")
    assert failure(path).why == "it has a passphrase"


def failure(path: Path) -> SshAgentError:
    with pytest.raises(SshAgentError) as caught:
        load_key(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_a_public_key_is_recognised(tmp_path):
    path = write_key(tmp_path / "key", MAKERS["ed25519"]())
    assert failure(path.with_name("key.pub")).why == "it is a public key"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is no private key"),
        (b"hello\n", "it is no private key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "its type, CERTIFICATE, is not known"),
        (b"-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "DSA PRIVATE KEY, is not known"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n!!\n-----END OPENSSH PRIVATE KEY-----\n", "it is damaged"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "it is damaged"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "it is damaged"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "it is damaged"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "it is no private key"),
        (b"x" * (MAX_KEY_FILE_BYTES + 1), f"it has more than {MAX_KEY_FILE_BYTES} bytes"),
    ],
)
def test_files_that_are_no_keys(tmp_path, content, why):
    (tmp_path / "key").write_bytes(content)
    error = failure(tmp_path / "key")
    assert why in error.why
    assert error.hint


def test_missing_files_and_folders(tmp_path):
    assert failure(tmp_path / "none").why == "No such file or directory"
    assert failure(tmp_path).why == "Is a directory"


def test_every_cut_of_a_key_has_one_clear_error(tmp_path):
    """And none of them repeats what is in the file."""
    path = write_key(tmp_path / "key", MAKERS["ed25519"]())
    lines = path.read_bytes().splitlines()
    binary = base64.b64decode(b"".join(lines[1:-1]))
    for size in range(0, len(binary), 7):
        cut = base64.b64encode(binary[:size])
        path.write_bytes(lines[0] + b"\n" + cut + b"\n" + lines[-1] + b"\n")
        error = failure(path)
        assert error.why == "it is damaged"
        assert error.__cause__ is None
        assert error.__suppress_context__


@pytest.mark.parametrize("position", [0, 31, 36, 67, 99])
def test_a_flipped_bit_in_the_key_is_found(tmp_path, position):
    path = write_key(tmp_path / "key", MAKERS["ed25519"]())
    lines = path.read_bytes().splitlines()
    binary = bytearray(base64.b64decode(b"".join(lines[1:-1])))
    public = binary.rindex(b"ssh-ed25519") + len(b"ssh-ed25519") + 4  # of the private half: 32 bytes, 4, then 64
    binary[public + position] ^= 1
    path.write_bytes(lines[0] + b"\n" + base64.b64encode(binary) + b"\n" + lines[-1] + b"\n")
    assert failure(path).why == "it is damaged"


def test_a_key_shows_no_secret(tmp_path):
    path = write_key(tmp_path / "key", MAKERS["ed25519"]())
    key = load_key(path)
    assert "_sign" not in repr(key)
    assert str(path) not in repr(key)


# -- the agent


def sign_request(blob: bytes, data: bytes = DATA, flags: int = 0) -> bytes:
    return ssh_string(b"\x0d" + ssh_string(blob) + ssh_string(data) + flags.to_bytes(4, "big"))


def test_the_agent_lists_and_signs(tmp_path):
    keys = [MAKERS[kind]() for kind in ("ed25519", "rsa")]
    agent = KeyAgent([write_key(tmp_path / str(number), key) for number, key in enumerate(keys)])
    listed = SshReader(agent.answer(LIST))
    body = SshReader(listed.string())
    assert body.take(1)[0] == IDENTITIES_ANSWER
    assert body.number() == 2
    for key in keys:
        assert body.string() == public_blob(key)
        assert body.string() == b""  # no comment: it may tell a name of this machine
    for key in keys:
        answer = SshReader(SshReader(agent.answer(sign_request(public_blob(key), flags=4))).string())
        assert answer.take(1)[0] == SIGN_RESPONSE
        verify(key, answer.string(), DATA)


def test_one_key_under_two_paths_is_listed_once(tmp_path):
    path = write_key(tmp_path / "key", MAKERS["ed25519"]())
    assert int.from_bytes(KeyAgent([path, path]).answer(LIST)[5:9], "big") == 1


def test_unknown_keys_and_requests_without_sense_get_a_failure(tmp_path):
    key = MAKERS["ed25519"]()
    agent = KeyAgent([write_key(tmp_path / "key", key)])
    assert agent.answer(sign_request(public_blob(MAKERS["ed25519"]()))) == FAILURE
    whole = sign_request(public_blob(key))
    for size in range(5, len(whole)):
        assert agent.answer(whole[:size]) == FAILURE
    for kind in {*range(256)} - {11, 13}:
        assert agent.answer(struct.pack(">IB", 1, kind)) == FAILURE


class AgentSocket:
    """The agent behind a socket, for programs that want one; the library itself never listens."""

    def __init__(self, agent: KeyAgent, path: Path) -> None:
        self.path = path
        self._agent = agent
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._server.accept()
            except OSError:
                return
            with stream, stream.makefile("rb") as requests:
                while head := requests.read(4):
                    stream.sendall(self._agent.answer(head + requests.read(int.from_bytes(head, "big"))))

    def close(self) -> None:
        self._server.close()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_openssh_takes_keys_and_signatures_of_every_kind(tmp_path):
    paths = []
    for kind, bits in (("ed25519", ""), ("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")):
        path = tmp_path / f"id_{kind}{bits}"
        size = ["-b", bits] if bits else []
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "c", "-f", path], check=True)
        paths.append(path)
    served = AgentSocket(KeyAgent(paths), tmp_path / "agent.sock")
    environ = {**os.environ, "SSH_AUTH_SOCK": str(served.path)}
    try:
        listed = subprocess.run(["ssh-add", "-l"], env=environ, capture_output=True, text=True, check=True).stdout
        assert len(listed.splitlines()) == len(paths)
        refused = subprocess.run(["ssh-add", "-D"], env=environ, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        (tmp_path / "message").write_bytes(DATA)
        for path in paths:
            # Only the public half is named, so the signature has to come from the agent.
            public = tmp_path / f"only-{path.name}.pub"
            shutil.copy(f"{path}.pub", public)
            signed = subprocess.run(
                ["ssh-keygen", "-Y", "sign", "-n", "test", "-f", public],
                input=DATA, env=environ, capture_output=True, check=True,
            )  # fmt: skip
            (tmp_path / "signature").write_bytes(signed.stdout)
            (tmp_path / "signers").write_text("me " + public.read_text())
            checked = subprocess.run(
                ["ssh-keygen", "-Y", "verify", "-n", "test", "-I", "me", "-f", tmp_path / "signers",
                 "-s", tmp_path / "signature"],
                input=DATA, capture_output=True, check=False,
            )  # fmt: skip
            assert checked.returncode == 0, (path.name, checked.stderr)
            subprocess.run(["ssh-add", "-q", "-T", public], env=environ, check=True)
    finally:
        served.close()


# -- the service


def test_the_service_answers_from_keys_and_refuses_the_rest(tmp_path):
    path = write_key(tmp_path / "key", MAKERS["ed25519"]())
    service = SshService({"default": SshKeys((path,)), "other": SshKeys((path,))})
    service.check()
    path.unlink()  # keys are read once
    daemon = FakeDaemon()
    with Session(daemon.open_stream, unary=service.unary_methods(), streaming=service.streaming_methods()):
        stream_id = daemon.start_call(FORWARD_AGENT, (("buildkit.ssh.id", "other"),))
        for request, kind in ((LIST, IDENTITIES_ANSWER), (struct.pack(">IB", 1, 19), 5), (LIST, IDENTITIES_ANSWER)):
            daemon.send_message(stream_id, ssh_pb2.BytesMessage(data=request).SerializeToString())
            answer = ssh_pb2.BytesMessage.FromString(daemon.call_of(stream_id).messages.get(timeout=5)).data
            assert answer[4] == kind
        daemon.end(stream_id)
        assert daemon.call_of(stream_id).done.wait(5)
        assert daemon.call_of(stream_id).status == StatusCode.OK
    assert not service.errors


def test_a_key_that_is_gone_is_told_early_and_late(tmp_path):
    service = SshService({"default": SshKeys((tmp_path / "none",))})
    with pytest.raises(SshAgentError, match="none"):
        service.check()
    daemon = FakeDaemon()
    with Session(daemon.open_stream, streaming=service.streaming_methods()):
        stream_id = daemon.start_call(FORWARD_AGENT)
        assert daemon.call_of(stream_id).done.wait(5)
        assert daemon.call_of(stream_id).status == StatusCode.UNAVAILABLE
    assert [str(error) for error in service.errors] == [f"cannot read the SSH key {tmp_path / 'none'}"]


class RecordingDaemon(FakeDaemon):
    """Keeps every byte that leaves the session."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""

    def send(self, message):
        self.heard += message
        super().send(message)


@pytest.mark.parametrize("form", [PKCS8, OPENSSH])
def test_nothing_of_a_private_key_leaves_or_is_logged(tmp_path, caplog, form):
    caplog.set_level("DEBUG")
    key = MAKERS["ed25519"]()
    seed, blob = key.private_bytes_raw(), public_blob(key)
    service = SshService({"default": SshKeys((write_key(tmp_path / "key", key, form),))})
    daemon = RecordingDaemon()
    with Session(daemon.open_stream, unary=service.unary_methods(), streaming=service.streaming_methods()):
        stream_id = daemon.start_call(FORWARD_AGENT)
        requests = [ssh_string(bytes([kind]) + ssh_string(blob) + bytes(8)) for kind in range(30)]
        for request in [LIST, sign_request(blob), *requests]:
            daemon.send_message(stream_id, ssh_pb2.BytesMessage(data=request).SerializeToString())
            daemon.call_of(stream_id).messages.get(timeout=5)
    assert blob in daemon.heard
    text = caplog.text + repr(service.__dict__)
    for secret in (seed, plain_ed25519._expand(seed)[0].to_bytes(32, "little"), plain_ed25519._expand(seed)[1]):
        assert secret not in daemon.heard
        for form_of_it in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
            assert form_of_it not in text


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_an_agent_has_an_answer_to_everything(body):
    agent = KeyAgent([])
    for kind in (0, 11, 13, 19, 27):
        answer = agent.answer(ssh_string(bytes([kind]) + body))
        assert int.from_bytes(answer[:4], "big") == len(answer) - 4
        assert answer[4] == (IDENTITIES_ANSWER if kind == 11 else 5)


def test_paths_mean_a_socket_or_keys(tmp_path):
    key = write_key(tmp_path / "key", MAKERS["ed25519"]())
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "sock"))
    sock = tmp_path / "sock"
    try:
        assert ssh_source([sock]) == SshAgent(sock)
        assert ssh_source([sock], raw=True) == SshAgent(sock, raw=True)
        assert ssh_source([key, key]) == SshKeys((key, key))
        for paths, raw, message in (
            ([sock, sock], False, "only single socket allowed"),
            ([sock, key], False, "invalid combination of keys and sockets"),
            ([key, sock], False, "invalid combination of keys and sockets"),
            ([key], True, "raw mode only supported with socket paths"),
            ([], False, "SSH keys need the path of at least one file"),
        ):
            with pytest.raises(OptionError, match=message):
                ssh_source(paths, raw=raw)
        with pytest.raises(SshAgentError, match="none"):
            ssh_source([tmp_path / "none"])
    finally:
        server.close()
