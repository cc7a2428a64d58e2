"""gcloud without its start: a process that has loaded the SDK and forks once for each command.

`python warm_gcloud.py SDK_ROOT SOCKET`. Whoever connects sends a JSON object {args, cwd, env} with its three standard
descriptors and gets the exit code. The command is the SDK's own code, as /usr/bin/gcloud would run it; what is saved is
the second of a processor that loading it takes each time.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path

LEARNED_PREFIXES = ("googlecloudsdk.", "apitools.", "google.", "googleapiclient.", "oauth2client.")


def load(sdk_root):
    """What every command begins with."""
    sys.path.insert(0, str(Path(sdk_root) / "lib"))
    os.environ["CLOUDSDK_ROOT_DIR"] = sdk_root
    import gcloud  # the SDK's own start

    sys.path = gcloud.reorder_sys_path(sys.path)
    gcloud._fix_google_module()
    return gcloud._import_gcloud_main()


def run(gcloud_main, request, fds, learned):
    """In the child: becomes that command."""
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
    for fd in fds:
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["gcloud", *request["args"]]
    code = 1
    try:
        gcloud_main.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
    except BaseException as error:  # what Python would print
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    names = [name for name in sys.modules if name.startswith(LEARNED_PREFIXES)]
    learned.write("\n".join(names).encode())
    learned.flush()
    os._exit(code)


def learn(text):
    """Loads what a command had to load, for the next one."""
    for name in text.split():
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                __import__(name)


def main():
    """Serves until whoever started it is gone."""
    sdk_root, path = sys.argv[1:]
    gc.disable()
    gcloud_main = load(sdk_root)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running = {}
    parent = os.getppid()
    while os.getppid() == parent:
        ready, _, _ = select.select([server, wake_read], [], [], 1)
        if wake_read in ready:
            os.read(wake_read, 4096)
        for pid, (connection, learned) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                continue
            del running[pid]
            with contextlib.suppress(OSError):
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            connection.close()
            learned.seek(0)
            learn(learned.read().decode())
            learned.close()
        if server in ready:
            connection, _ = server.accept()
            message, fds, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            learned = tempfile.TemporaryFile()  # noqa: SIM115
            # Looking through all that is loaded takes a command longer than its own work, and copies every page of it.
            gc.freeze()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                run(gcloud_main, json.loads(message), fds, learned)
            for fd in fds:
                os.close(fd)
            running[pid] = (connection, learned)


main()
