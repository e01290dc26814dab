"""Interrupts wait for changes of the records to be done."""

from __future__ import annotations

import threading

import pytest

from convox.interrupts import interrupt, uninterrupted


def test_interrupts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_waits_for_the_end_of_the_outermost_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            interrupt()
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_comes_once() -> None:
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        interrupt()
        interrupt()
    with uninterrupted():
        pass


def test_wins_over_an_error_of_the_block() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        interrupt()
        raise ValueError("of the block")
    assert isinstance(caught.value.__context__, ValueError)


def test_block_in_another_thread_delays_nothing() -> None:
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with uninterrupted():
            entered.set()
            leave.wait(5)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(5)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    leave.set()
    thread.join()
