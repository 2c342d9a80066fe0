"""The first Ctrl-C is noted, the second stops at once, and afterwards signals mean what they meant before."""

import os
import signal
import threading

import pytest

from danlu.train.signals import stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_stops(number):
    before = signal.getsignal(number)
    with stopping() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_it_steps_aside():
    found = []

    def work():
        with stopping() as stop:
            found.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
