import pytest

from buildkit_client._proto import secrets_pb2
from buildkit_client.errors import OptionError, SecretError
from buildkit_client.options.secrets import SecretCallback, SecretEnv, SecretFile, SecretValue
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError
from buildkit_client.session.secrets import GET_SECRET, MAX_SECRET_BYTES, SecretsService

CANARY = b"canary-7f3a\n"


def get(service, secret_id):
    request = secrets_pb2.GetSecretRequest(ID=secret_id).SerializeToString()
    return secrets_pb2.GetSecretResponse.FromString(service.methods()[GET_SECRET](request, {})).data


def test_values_come_as_they_are_from_every_source(tmp_path):
    (tmp_path / "token").write_bytes(CANARY)
    service = SecretsService(
        {
            "file": SecretFile(tmp_path / "token"),
            "value": SecretValue(CANARY),
            "callback": SecretCallback(lambda: CANARY),
            "empty": SecretValue(b""),
        }
    )
    service.check()
    assert [get(service, name) for name in ("file", "value", "callback", "empty")] == [CANARY] * 3 + [b""]


def test_a_file_is_read_each_time(tmp_path):
    (tmp_path / "token").write_bytes(b"old")
    service = SecretsService({"token": SecretFile(tmp_path / "token")})
    assert get(service, "token") == b"old"
    (tmp_path / "token").write_bytes(b"new")
    assert get(service, "token") == b"new"


@pytest.mark.parametrize("secret_id", ["GIT_AUTH_TOKEN", "nothing", ""])
def test_unknown_ids_and_none_are_not_found(secret_id):
    service = SecretsService({"nothing": SecretCallback(lambda: None)})
    with pytest.raises(RpcError) as caught:
        get(service, secret_id)
    assert caught.value.code == StatusCode.NOT_FOUND
    assert service.errors == ()


def test_a_missing_file_is_told_before_and_during_the_build(tmp_path):
    service = SecretsService({"token": SecretFile(tmp_path / "none")})
    with pytest.raises(SecretError, match="'token'") as early:
        service.check()
    assert "No such file" in early.value.why
    with pytest.raises(RpcError) as late:
        get(service, "token")
    assert late.value.code == StatusCode.FAILED_PRECONDITION
    assert [str(error) for error in service.errors] == [str(early.value)]


@pytest.mark.parametrize("size", [MAX_SECRET_BYTES, MAX_SECRET_BYTES + 1])
def test_the_size_limit(tmp_path, size):
    (tmp_path / "big").write_bytes(bytes(size))
    service = SecretsService({"file": SecretFile(tmp_path / "big"), "value": SecretValue(bytes(size))})
    for secret_id in ("file", "value"):
        if size <= MAX_SECRET_BYTES:
            assert len(get(service, secret_id)) == size
        else:
            with pytest.raises(RpcError, match="too large"):
                get(service, secret_id)


def test_no_value_in_any_repr_or_error():
    value = SecretValue(CANARY)
    service = SecretsService({"token": value, "big": SecretValue(CANARY * 100_000)})
    with pytest.raises(RpcError) as caught:
        get(service, "big")
    assert "canary" not in repr(value) + repr(service) + repr(caught.value) + repr(service.errors)


def test_garbage_is_refused():
    with pytest.raises(RpcError) as caught:
        SecretsService({}).methods()[GET_SECRET](b"\xff\xff", {})
    assert caught.value.code == StatusCode.INVALID_ARGUMENT


def test_a_callback_that_fails_is_our_error_without_its_words():
    def broken():
        raise RuntimeError("the vault said canary")

    service = SecretsService({"token": SecretCallback(broken)})
    with pytest.raises(RpcError) as caught:
        get(service, "token")
    (error,) = service.errors
    assert isinstance(error, SecretError)
    assert (str(error), error.why) == ("the callback of the secret 'token' failed", "it raised RuntimeError")
    assert isinstance(error.__cause__, RuntimeError)
    assert "canary" not in str(caught.value)


def test_an_error_of_a_callback_that_is_ours_stays_as_it_is():
    given = SecretError("the vault is closed", why="it is night")

    def closed():
        raise given

    service = SecretsService({"token": SecretCallback(closed)})
    with pytest.raises(RpcError):
        get(service, "token")
    assert service.errors == (given,)


@pytest.mark.parametrize("secret", [CANARY, "canary", None])
def test_what_is_no_secret_is_told_before_the_build(secret):
    with pytest.raises(OptionError, match="'token' is a ") as caught:
        SecretsService({"token": secret}).check()
    assert "canary" not in str(caught.value)


def test_a_value_that_is_text_is_told():
    with pytest.raises(SecretError, match="is no bytes") as caught:
        SecretsService({"token": SecretValue("canary")}).check()
    assert "canary" not in f"{caught.value}{caught.value.why}"
    service = SecretsService({"token": SecretCallback(lambda: "canary")})
    with pytest.raises(RpcError, match="is no bytes"):
        get(service, "token")


def test_a_variable_is_read_when_a_step_asks(monkeypatch):
    monkeypatch.setenv("TOKEN", "first")
    service = SecretsService({"token": SecretEnv("TOKEN"), "empty": SecretEnv("EMPTY")})
    monkeypatch.setenv("EMPTY", "")
    service.check()
    monkeypatch.setenv("TOKEN", "caf\udce9")  # bytes that are no UTF-8
    assert get(service, "token") == b"caf\xe9"
    assert get(service, "empty") == b""


def test_a_variable_that_is_not_set(monkeypatch):
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(SecretError) as caught:
        SecretsService({"token": SecretEnv("TOKEN")}).check()
    assert "'TOKEN'" in caught.value.why
