"""`samebits serve`: the store and its ledger over HTTP."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samebits.cli.http_serving import run_server
from samebits.cli.options import DeviceOption, StoreOption, open_existing_store, open_store, store_path
from samebits.cli.output import CommandError, command, stderr
from samebits.cli.trusting import KeyOption, load_given_key
from samebits.exec.author import author_key_path
from samebits.exec.devices.registry import check_device_name
from samebits.ledger import SigningKey
from samebits.ledger.keyfile import find_key

if TYPE_CHECKING:
    from samebits.cas import Store


@command
def serve_command(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8420,
    writable: Annotated[
        bool, typer.Option("--writable", help="Take objects and pins from whoever can connect.")
    ] = False,
    answer: Annotated[
        bool, typer.Option("--answer", help="Answer disputes about the runs here: compute steps again, sign traces.")
    ] = False,
    device: DeviceOption = "numpy",
    key: KeyOption = None,
    store: StoreOption = None,
) -> None:
    """Give the store out over HTTP, for `samebits cas pull` and for any HTTP client; until it is interrupted.

    Its ledger is there too, as C2SP tlog-tiles: /checkpoint, /tile/..., and the log's key in /log.pub. A run can be
    checked from anywhere: `samebits verify URL/RUN`.

    With --answer, `samebits dispute` can ask for the inside of steps of runs that --key, or the store's author, made;
    --device computes them.

    There is no encryption and no password: put a proxy that has both in front of it on an open network.
    """
    check_device_name(device)
    signer = _answering_key(store_path(store), key) if answer else None
    with open_store(store) if writable else open_existing_store(store_path(store)) as opened:
        _serve(opened, host, port, writable=writable, signer=signer, device=device)


def _answering_key(store: Path, given: Path | None) -> SigningKey:
    key = load_given_key(given) or find_key(author_key_path(store))
    if key is None:
        raise CommandError(
            f"--answer signs with the author's key, but {author_key_path(store)} is not there; name --key"
        )
    return key


def _serve(store: Store, host: str, port: int, *, writable: bool, signer: SigningKey | None, device: str) -> None:
    try:
        import uvicorn  # noqa: F401

        from samebits.exec.dispute.server import dispute_routes
        from samebits.exec.places.run_server import make_place_app
    except ImportError as error:
        raise CommandError('serve needs starlette and uvicorn: pip install "samebits[remote]"') from error

    def warn(address: str) -> None:
        if writable and not ipaddress.ip_address(address).is_loopback:
            stderr.print("samebits: anyone who can connect may write to this store")

    answers = [] if signer is None else dispute_routes(store, signer, device=device)
    run_server(make_place_app(store, writable=writable, more=answers), host, port, on_listening=warn)
