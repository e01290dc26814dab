"""Work that Ctrl-C must not hit is done in another thread, and undone when nobody waits for it any more."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from buildkit_client.transport.apart import apart, pumped
from tests.support.threads import no_thread_stays


def interrupt_after(delay_s):
    timer = threading.Timer(delay_s, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.daemon = True
    timer.start()
    return timer


def test_the_main_thread_lets_another_one_do_it():
    assert apart(threading.get_ident) != threading.main_thread().ident
    assert apart(lambda: None) is None


def test_other_threads_do_it_themselves():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(apart(threading.get_ident)))
    thread.start()
    thread.join()
    assert seen == [thread.ident]


def test_errors_come_out_as_they_are():
    def fail():
        raise KeyError("x")

    with pytest.raises(KeyError, match="x") as caught:
        apart(fail)
    assert caught.traceback[-1].name == "fail"
    with pytest.raises(SystemExit):
        apart(lambda: sys.exit(3))


def test_an_interrupt_ends_the_wait_at_once_and_undoes_the_work():
    go_on = threading.Event()
    undone = threading.Event()

    def work():
        go_on.wait(10)
        return "made"

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(0.1)
        apart(work, undo=lambda value: value == "made" and undone.set())
    assert time.monotonic() - started < 2
    assert not undone.is_set()
    go_on.set()
    assert undone.wait(5)


def test_what_was_taken_is_not_undone():
    undone = []
    assert apart(lambda: 7, undo=undone.append) == 7
    time.sleep(0.1)
    assert undone == []


def test_a_stream_is_read_in_another_thread_in_order():
    seen = []

    def source():
        for number in range(500):
            seen.append(threading.get_ident())
            yield number

    assert list(pumped(source())) == list(range(500))
    assert threading.main_thread().ident not in seen


def test_a_stream_is_not_read_far_ahead():
    read = []

    def source():
        for number in range(10_000):
            read.append(number)
            yield number

    with no_thread_stays("build-pump"):
        items = pumped(source())
        assert next(items) == 0
        time.sleep(0.2)
        assert 1 <= len(read) < 100
        items.close()
    assert len(read) < 100


def test_errors_of_a_stream_come_out_after_its_items():
    def source():
        yield 1
        raise KeyError("x")

    items = pumped(source())
    assert next(items) == 1
    with pytest.raises(KeyError):
        next(items)


def test_an_interrupt_ends_the_wait_for_a_stream():
    never = threading.Event()

    def source():
        yield 1
        never.wait(10)

    items = pumped(source())
    assert next(items) == 1
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(0.1)
        next(items)
    never.set()


STORM = """
import os, signal, sys, threading, time
from buildkit_client.transport.apart import apart

lock = threading.Lock()

class Guard:
    # As in threading.Condition, entering is Python code: an interrupt in it leaves the lock taken.

    def __enter__(self):
        lock.acquire()
        for _ in range(2000):
            pass

    def __exit__(self, *_):
        lock.release()

def use():
    with Guard():
        return 1

def storm():
    for _ in range(300):
        time.sleep(0.003)
        os.kill(os.getpid(), signal.SIGINT)
    over.append(True)

over = []
count = 0
thread = threading.Thread(target=storm, daemon=True)
thread.start()
while not over:
    try:
        while not over:
            apart(use)
            count += 1
    except KeyboardInterrupt:
        pass
time.sleep(0.05)
assert lock.acquire(timeout=5), "the lock was never given back"
print("ok" if count > 50 else count)
"""


def test_three_hundred_interrupts_leave_no_lock_behind():
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("ok\n", "")
