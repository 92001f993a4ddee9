"""test_futures and test_futures2: one class for each implementation of Future."""

from typing import Any

from ..adapt import Adaptation

THEIRS = "asyncio's own futures on asyncio's own test loop"


def futures(module: Adaptation) -> None:
    Future = module.native.Future

    class SubFuture(Future):
        pass

    module.variant("NativeFutureTests", "CFutureTests", cls=Future)
    module.variant("NativeSubFutureTests", "CSubFutureTests", cls=SubFuture)
    for name, cls in {"Native": Future, "NativeSub": SubFuture}.items():
        module.variant(
            f"{name}FutureDoneCallbackTests",
            "CFutureDoneCallbackTests",
            _new_future=_maker(cls),
        )
    module.variant(
        "NativeFutureInheritanceTests",
        "CFutureInheritanceTests",
        _get_future_cls=lambda self: Future,
    )
    for kind in ("C", "CSub", "Py"):
        module.drop(THEIRS, f"{kind}FutureTests", f"{kind}FutureDoneCallbackTests")
    module.drop(THEIRS, "CFutureInheritanceTests", "PyFutureInheritanceTests")


def _maker(cls: type) -> Any:
    return lambda self: cls(loop=self.loop)


def futures2(module: Adaptation) -> None:
    """Its "futures" are tasks.  asyncio's stay: here they run on a native loop."""
    module.variant("NativeFutureTests", "CFutureTests", cls=module.native.Task)
