"""test_events: the loop itself, handles, policies and the running loop."""

from ..adapt import Adaptation


def events(module: Adaptation) -> None:
    module.by_loop()
    native = module.native
    module.variant(
        "TestNativeGetEventLoop",
        "TestCGetEventLoop",
        Task=native.Task,
        Future=native.Future,
    )
    module.drop("TestNativeGetEventLoop is the same", "TestCGetEventLoop")
