"""A Ray of two workers on this machine."""

import contextlib
import os
import signal
import tempfile
import time

import psutil


@contextlib.contextmanager
def local_ray():
    """Start Ray, and stop it; nothing leaves the machine."""
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",  # of 15, and then other tests leave them nothing
    }
    import ray

    with tempfile.TemporaryDirectory(prefix="ray_", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=200e6,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=folder,
        )
        try:
            yield ray
        finally:
            ray.shutdown()


def actors(title):
    """Return the processes of actors by a part of their title."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(title in part for part in process.cmdline()):
                found.append(process)
    return found


def kill_one_of_two(title):
    """Kill the older one of two actors from outside; return the process ids of both."""
    end = time.monotonic() + 60
    while len(found := actors(title)) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    os.kill(min(found, key=lambda process: process.create_time()).pid, signal.SIGKILL)
    return {process.pid for process in found}
