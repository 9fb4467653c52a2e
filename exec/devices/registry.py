"""Devices by name. One that is opened runs the conformance vectors first: one wrong bit and it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from samebits.exec.conformance import check_device
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.protocol import Device
from samebits.exec.errors import DeviceError

DEVICES: Final[Mapping[str, Callable[[], Device]]] = {"numpy": NumpyDevice}


def open_device(name: str, *, check: bool = True) -> Device:
    """Open a device by name; raises DeviceError if it is unknown or fails the conformance vectors."""
    if not isinstance(name, str) or name not in DEVICES:
        raise DeviceError(f"unknown device {name!r} (known: {', '.join(DEVICES)})")
    device = DEVICES[name]()
    if check:
        check_device(device)
    return device
