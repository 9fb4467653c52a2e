"""Run a command line under an audit hook: python audited.py ROOMS... -- ARGUMENTS.

Whatever executes foreign code, starts a program, unpickles, connects somewhere or changes a file outside of ROOMS is
written to stderr as `VIOLATION event what`. ROOMS are the folders that the command may write in.
"""

import os
import sys
import sysconfig
from types import FrameType
from typing import Any

split = sys.argv.index("--")
WRITABLE = tuple(os.path.realpath(room) for room in sys.argv[1:split])
OWN = os.path.realpath(os.environ["SAMEBITS_ROOT"])
paths = sysconfig.get_paths()
TRUSTED = tuple(
    os.path.realpath(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
) + tuple(f"{OWN}/{room}" for room in ("src", "cas", "kernels", "ledger", "exec", "cli"))
FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"),
    *("pickle.find_class", "socket.connect", "socket.bind", "webbrowser.open", "pty.spawn"),
)
CHANGES = (
    *("os.remove", "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate"),
    *("shutil.rmtree", "shutil.move", "os.utime", "os.mkfifo"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


GENERATORS = tuple(f"{paths['stdlib']}/{name}" for name in ("typing.py", "dataclasses.py", "inspect.py"))


def importing() -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    if frame is not None and frame.f_code.co_filename in GENERATORS:
        return True
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def inside(path: object, rooms: tuple[str, ...]) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return True  # a descriptor that is open already
    real = os.path.realpath(os.fsdecode(path))
    return real == "/dev/null" or any(real == room or real.startswith(room + "/") for room in rooms)


def own_code(name: str) -> bool:
    """Modules of Python, of what is installed and of samebits; text only where such a module is being imported."""
    if name.startswith("<"):
        return name.startswith("<frozen") or importing()
    return inside(name, TRUSTED)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    bad = None
    if event == "exec" and not own_code(arguments[0].co_filename):
        bad = arguments[0].co_filename
    elif event == "compile" and not own_code(os.fsdecode(arguments[1] or "<unknown>")):
        bad = arguments[1]
    elif event == "open" and arguments[2] & WRITES and not inside(arguments[0], WRITABLE):
        bad = arguments[0]
    elif event in FORBIDDEN or (
        event in CHANGES and not all(inside(path, WRITABLE) for path in arguments if isinstance(path, str | bytes))
    ):
        bad = arguments
    if bad is not None:
        os.write(2, f"VIOLATION {event} {bad!r}\n".encode())


sys.argv = ["samebits", *sys.argv[split + 1 :]]
sys.dont_write_bytecode = True
sys.addaudithook(watch)

from samebits.cli.samebits_main import main  # noqa: E402

main()
