"""The workloads, one module for each family."""

from __future__ import annotations

from ..workload import REGISTERED, Workload
from . import growth, network, programs, scheduling, tasks

__all__ = ["FAMILIES", "WORKLOADS", "find"]

FAMILIES = {
    module.__name__.rpartition(".")[2]: (module.__doc__ or "").partition("\n")[0]
    for module in (scheduling, tasks, network, programs, growth)
}

WORKLOADS = {
    workload.name: workload
    for family in FAMILIES
    for workload in REGISTERED.values()
    if workload.family == family
}


def find(name: str) -> Workload:
    return WORKLOADS[name]
