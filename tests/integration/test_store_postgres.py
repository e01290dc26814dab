"""The store in PostgreSQL: what all stores do, and two processes that make it at once.

Runs against ``TEST_POSTGRES_URL``, the URL of a database whose user may make schemas, else against a server of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from convox.errors import StoreError
from convox.store import open_store
from convox.store.database import DatabaseStore
from tests.support.postgres import OwnPostgres, PostgresMissingError
from tests.support.store_cases import StoreCases, a_build


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    try:
        server = OwnPostgres()
    except PostgresMissingError as exc:
        if request.config.getoption("--require-services"):
            pytest.fail(str(exc), pytrace=False)
        pytest.skip(str(exc))
    with server:
        yield server.url


@pytest.fixture
def store_url(database_url: str) -> Iterator[str]:
    schema = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(f"CREATE SCHEMA {schema}")
    yield f"{database_url}{'&' if '?' in database_url else '?'}options={quote(f'-csearch_path={schema}')}"
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(f"DROP SCHEMA {schema} CASCADE")


class TestPostgres(StoreCases):
    """All that a store must do, on PostgreSQL."""


def test_many_that_open_an_empty_database_at_once(store_url: str, tmp_path: Path) -> None:
    def use(number: int) -> str:
        store = open_store(store_url, logs_dir=tmp_path)
        try:
            store.create_build(a_build(description=str(number)))
            return "done"
        finally:
            store.close()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(6))) == ["done"] * 6


def test_a_connection_that_the_server_ended_is_made_again(store_url: str, tmp_path: Path) -> None:
    store = open_store(store_url, logs_dir=tmp_path)
    other = open_store(store_url, logs_dir=tmp_path)
    assert isinstance(store, DatabaseStore)
    assert isinstance(other, DatabaseStore)
    [[pid]] = store.execute("SELECT pg_backend_pid()")
    other.execute("SELECT pg_terminate_backend(%s)", pid)
    with pytest.raises(StoreError):
        store.list_builds("web")
    assert store.list_builds("web") == []
    store.close()
    other.close()


def test_a_wrong_password_is_one_error_without_it(store_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("postgresql://nobody-here:secretpw@127.0.0.1:1/db", logs_dir=tmp_path)
    assert "secretpw" not in f"{caught.value}{caught.value.why}{caught.value.hint}"
